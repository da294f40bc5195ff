package eks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/smithy-go/middleware"

	"github.com/ovenbird-dev/ovenbird/control-plane/eks"
)

// lossless makes a client fail the test when an answer holds something that the SDK does
// not find again, a member that is not of its model or whose value it cannot read, or that is
// unlike the answer that the SDK's own tests hold.
func lossless(t *testing.T) func(*awseks.Options) {
	golden := eks.Snapshots(t, "response")
	return func(o *awseks.Options) {
		o.HTTPClient = bodyKeeper{http.DefaultClient}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("lossless", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				var body bytes.Buffer
				out, metadata, err := next.HandleInitialize(context.WithValue(ctx, bodyKey{}, &body), in)
				if err == nil {
					var members any
					if err := json.Unmarshal(body.Bytes(), &members); err != nil {
						t.Errorf("%T: %v in %s", in.Parameters, err, body.Bytes())
					}
					for _, loss := range losses("", members, reflect.ValueOf(out.Result)) {
						t.Errorf("%T: %s", in.Parameters, loss)
					}
					name := awsmiddleware.GetOperationName(ctx)
					for _, stranger := range strangers("", members, goldenBody(t, golden[name])) {
						t.Errorf("%s: %s", name, stranger)
					}
				}
				return out, metadata, err
			}), middleware.Before)
		})
	}
}

// goldenBody is the body of a response: the status, headers and an empty line come before it.
// An operation that answers nothing has none; an empty object is the same to its client.
func goldenBody(t *testing.T, response string) (members any) {
	t.Helper()
	_, body, _ := strings.Cut(response, "\n\n")
	if response != "" && body == "" {
		return map[string]any{}
	}
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Errorf("the SDK's response: %v in %q", err, response)
	}
	return members
}

// strangers says what of a JSON value has no place, or another type, in one that has every
// member.
func strangers(path string, sent, golden any) []string {
	if sent != nil && reflect.TypeOf(sent) != reflect.TypeOf(golden) {
		return []string{fmt.Sprintf("%s is %T, and %T in the SDK's response", path, sent, golden)}
	}
	var all []string
	switch sent := sent.(type) {
	case map[string]any:
		golden, _ := golden.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(sent)) {
			like, ok := golden["key0"] // of a map with any keys
			if !ok {
				like = golden[key]
			}
			all = append(all, strangers(path+"."+key, sent[key], like)...)
		}
	case []any:
		if golden, _ := golden.([]any); len(golden) > 0 {
			for i := range sent {
				all = append(all, strangers(fmt.Sprintf("%s[%d]", path, i), sent[i], golden[0])...)
			}
		}
	}
	return all
}

type bodyKey struct{}

// bodyKeeper copies every answer to where its request's context says.
type bodyKeeper struct{ *http.Client }

func (k bodyKeeper) Do(r *http.Request) (*http.Response, error) {
	response, err := k.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	kept, _ := r.Context().Value(bodyKey{}).(*bytes.Buffer)
	if _, err := kept.ReadFrom(response.Body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(kept.Bytes()))
	return response, nil
}

// losses says what of a JSON value is not in the decoded one.
func losses(path string, sent any, decoded reflect.Value) []string {
	for decoded.Kind() == reflect.Pointer && !decoded.IsNil() {
		decoded = decoded.Elem()
	}
	missing := []string{fmt.Sprintf("%s: sent %v, decoded %v", path, sent, decoded)}
	switch sent := sent.(type) {
	case map[string]any:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(sent)) {
			all = append(all, losses(path+"."+key, sent[key], member(decoded, key))...)
		}
		return all
	case []any:
		if decoded.Kind() != reflect.Slice || decoded.Len() != len(sent) {
			return missing
		}
		var all []string
		for i := range sent {
			all = append(all, losses(fmt.Sprintf("%s[%d]", path, i), sent[i], decoded.Index(i))...)
		}
		return all
	case float64:
		if !decoded.IsValid() {
			return missing
		}
		if at, ok := decoded.Interface().(time.Time); ok && at.UnixMilli() == int64(sent*1000+0.5) {
			return nil
		}
	}
	if !decoded.IsValid() || fmt.Sprint(decoded) != fmt.Sprint(sent) {
		return missing
	}
	return nil
}

// member finds what a JSON key is decoded into: none, if the key is not of the model.
func member(of reflect.Value, key string) reflect.Value {
	switch of.Kind() {
	case reflect.Map:
		return of.MapIndex(reflect.ValueOf(key))
	case reflect.Struct:
		return of.FieldByName(strings.ToUpper(key[:1]) + key[1:])
	}
	return reflect.Value{}
}
