package eks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// maxARN is the length of the longest ARN that AWS has.
const maxARN = 2048

// Callers says who makes a call; iam.Callers does.
type Callers interface {
	Authenticate(r *http.Request) (iam.Caller, error)
}

// Access decides what a caller may do; iam.Authorizer does.
type Access interface {
	Authorize(ctx context.Context, c iam.Caller, r iam.Request) error
}

// Audit keeps the record of calls; *audit.Calls does.
type Audit interface {
	Record(e audit.Event)
}

// call is what becomes known of a call on its way through.
type call struct {
	caller  iam.Caller
	request iam.Request
}

type callKey struct{}

// caller returns the canonical ARN of who makes the call.
func caller(ctx context.Context) string {
	if known, ok := ctx.Value(callKey{}).(*call); ok {
		return known.caller.CanonicalARN
	}
	return ""
}

// authenticate lets only proven callers through. It comes before routing: a stranger does
// not learn which routes there are. Every call is one audit event, whatever becomes of it.
func (a *api) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, id, known := a.Now(), uuid.NewString(), &call{}
		w.Header().Set("X-Amzn-Requestid", id)
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), callKey{}, known), callTimeout)
		defer cancel()
		answer := &observed{ResponseWriter: w, status: http.StatusInternalServerError}
		defer func() {
			a.Audit.Record(audit.Event{
				Time: began, RequestID: id, Source: iam.Source(r), Principal: known.caller.ARN, Proof: known.caller.Proof,
				Operation: known.request.Operation, Resource: known.request.Resource,
				Outcome: strconv.Itoa(answer.status), Reason: w.Header().Get("X-Amzn-Errortype"), Duration: a.Now().Sub(began).Round(time.Microsecond),
			})
		}()
		r = r.WithContext(ctx)
		var err error
		if known.caller, err = a.Callers.Authenticate(r); err != nil {
			a.fail(answer, r, authenticationError(err))
			return
		}
		next.ServeHTTP(answer, r)
	})
}

// observed notes the status; an answer that is never begun, after a panic, is a 500.
type observed struct {
	http.ResponseWriter
	status int
}

func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// authorize decides whether the caller may do the operation.
func (a *api) authorize(r *http.Request, operation string) error {
	known, ok := r.Context().Value(callKey{}).(*call)
	if !ok {
		return errors.New("a call that was not authenticated")
	}
	cluster, resource, err := a.resource(r, operation)
	if err != nil {
		return err
	}
	known.request = iam.Request{Operation: "eks:" + operation, Cluster: cluster, Resource: resource}
	err = a.Access.Authorize(r.Context(), known.caller, known.request)
	var denied *iam.Denied
	if errors.As(err, &denied) {
		return &apiError{http.StatusForbidden, "AccessDeniedException", denied.Error(), ""}
	}
	return err
}

// resource is what a call is about, by AWS's service authorization reference: the cluster's
// name and the ARN. What can be no name is "*", which only a policy for all allows; a part
// that the service gives, such as the ID of an access entry, is "*" too.
func (a *api) resource(r *http.Request, operation string) (cluster, arn string, err error) {
	path := segments(r)
	switch {
	case operation == "CreateCluster":
		cluster, err = nameInBody(r)
	case len(path) > 1 && path[0] == "clusters":
		cluster = path[1]
	case len(path) > 1 && path[0] == "tags":
		return a.taggedResource(path[1])
	}
	if err != nil || !registry.ValidName(cluster) {
		return "", "*", err
	}
	if len(path) > 3 && path[2] == "access-entries" {
		// Leave for the cluster is none for its entries, so what names no entry is not the cluster's.
		if !ownerARN.MatchString(path[3]) {
			return "", "*", nil
		}
		return cluster, a.entryARN(cluster, parsePrincipal(path[3]), "*"), nil
	}
	if len(path) > 3 && path[2] == "node-groups" && registry.ValidName(path[3]) {
		return cluster, a.arn(strings.Join([]string{"nodegroup", cluster, path[3], "*"}, "/")), nil
	}
	return cluster, a.arn("cluster/" + cluster), nil
}

// taggedResource is the resource that a call about tags names itself.
func (a *api) taggedResource(arn string) (cluster, resource string, err error) {
	rest, ours := strings.CutPrefix(arn, a.arn(""))
	_, rest, _ = strings.Cut(rest, "/")
	name, _, _ := strings.Cut(rest, "/")
	if !ours || len(arn) > maxARN || !registry.ValidName(name) {
		return "", "*", nil
	}
	return name, arn, nil
}

// segments cuts the path as http.ServeMux does.
func segments(r *http.Request) []string {
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range path {
		if plain, err := url.PathUnescape(segment); err == nil {
			path[i] = plain
		}
	}
	return path
}

// nameInBody reads the name as createCluster will, and puts the body back.
func nameInBody(r *http.Request) (string, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var request struct {
		Name string `json:"name"`
	}
	// What is wrong with the body is for createCluster to say, to callers who may create.
	_ = json.Unmarshal(body, &request)
	return request.Name, nil
}

// signatureKinds are the names that AWS's JSON services give to what its query services
// call otherwise.
var signatureKinds = map[string]string{
	sigv4.CodeMissingToken: "MissingAuthenticationTokenException",
	sigv4.CodeIncomplete:   "IncompleteSignatureException",
	sigv4.CodeUnknownKey:   "UnrecognizedClientException",
	sigv4.CodeMismatch:     "InvalidSignatureException",
	sigv4.CodeExpired:      "InvalidSignatureException",
	sigv4.CodeExpiredToken: "ExpiredTokenException",
}

// authenticationError turns a refusal of Callers into one of this API that tells nothing to
// help a forger; the log has err itself. Other errors stay.
func authenticationError(err error) error {
	var signature *sigv4.Error
	refused := &apiError{status: http.StatusForbidden}
	switch {
	case errors.As(err, &signature) && signature.Code == sigv4.CodeTooLarge:
		refused.status, refused.kind, refused.Message = http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", signature.Message
	case errors.As(err, &signature):
		refused.kind, refused.Message = signatureKinds[signature.Code], signature.Message
	case errors.Is(err, ststoken.ErrInvalid):
		refused.kind, refused.Message = "UnrecognizedClientException", "The security token included in the request is invalid."
	case errors.Is(err, iam.ErrPlainHTTP), errors.Is(err, iam.ErrNoBearer):
		refused.kind, refused.Message = "AccessDeniedException", err.Error()
	case errors.Is(err, iam.ErrThrottled):
		refused.status, refused.kind, refused.Message = http.StatusTooManyRequests, "ThrottlingException", "Rate exceeded"
	case errors.Is(err, iam.ErrUnavailable):
		refused.status, refused.kind, refused.Message = http.StatusServiceUnavailable, "ServiceUnavailableException", "AWS STS does not answer, so the caller cannot be verified. Try again."
	default:
		return err
	}
	if refused.kind == "" {
		refused.kind = "AccessDeniedException"
	}
	return because{refused, err}
}

// because is an answer with what the caller is not told.
type because struct {
	answer *apiError
	reason error
}

func (b because) Error() string   { return b.reason.Error() }
func (b because) Unwrap() []error { return []error{b.answer, b.reason} }
