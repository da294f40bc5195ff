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

	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/smithy-go/middleware"
)

// lossless makes a client fail the test when an answer holds something that the SDK does
// not find again: a member that is not of its model, or whose value it cannot read.
func lossless(t *testing.T) func(*awseks.Options) {
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
				}
				return out, metadata, err
			}), middleware.Before)
		})
	}
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
