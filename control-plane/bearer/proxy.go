package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

const (
	// maxRequest is above what the EKS API takes.
	maxRequest = 1 << 20
	// maxResponse is far above a full page of any list.
	maxResponse = 16 << 20
	// passTimeout is above the 30 s that the service allows itself.
	passTimeout = 45 * time.Second
)

// roots are the first segments of the paths of the EKS API.
var roots = []string{"clusters", "cluster-versions", "access-policies", "tags", "addons", "eks-anywhere-subscriptions", "cluster-registrations"}

// Proxy lets the AWS CLI and SDKs, which can only sign, use a service that takes bearer
// tokens. It passes a request on when it is signed with the very credentials that the token
// is made of: another user of the machine, who has not got them, cannot borrow it.
type Proxy struct {
	Client      Client
	Credentials aws.CredentialsProvider
	Region      string
	Log         *zap.Logger
	Now         func() time.Time // nil: time.Now
}

// Handler returns the proxy as a handler, for a loopback address.
func (p Proxy) Handler() http.Handler {
	verifier := sigv4.Verifier{Keys: own{p.Credentials}, Region: p.Region, Service: "eks", Now: p.Now, MaxBody: maxRequest}
	pass := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(p.Client.Endpoint) },
		Transport: p.Client,
		ModifyResponse: func(r *http.Response) error {
			r.Body = http.MaxBytesReader(nil, r.Body, maxResponse)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			p.Log.Warn("a request did not reach the service", zap.Error(err))
			refuse(w, http.StatusServiceUnavailable, "ServiceUnavailableException", fmt.Sprintf("The service at %s cannot be reached: %v", p.Client.Endpoint, err))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), passTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		if !isEKS(r) {
			refuse(w, http.StatusNotFound, "UnknownOperationException", "This proxy passes on the operations of Amazon EKS only.")
			return
		}
		if _, err := verifier.Verify(r); err != nil {
			p.refuseCaller(w, r, err)
			return
		}
		pass.ServeHTTP(w, r)
	})
}

func (p Proxy) refuseCaller(w http.ResponseWriter, r *http.Request, err error) {
	p.Log.Warn("a caller was refused", zap.String("method", r.Method), zap.Error(err))
	var refusal *sigv4.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == sigv4.CodeTooLarge:
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", refusal.Message)
	case errors.As(err, &refusal):
		refuse(w, http.StatusForbidden, "AccessDeniedException", "This proxy is for who has the credentials that it was started with: "+refusal.Message)
	default:
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailableException", "The proxy's own AWS credentials cannot be had; its log says more.")
	}
}

// isEKS tells whether a request can be of the EKS API. A path with dots could mean another
// one to whoever reads it next.
func isEKS(r *http.Request) bool {
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil || plain == "." || plain == ".." || plain == "" && i < len(segments)-1 {
			return false
		}
	}
	return slices.Contains(roots, segments[0]) && r.Header.Get("Upgrade") == ""
}

// own are the keys of one set of credentials: the one that the proxy uses itself.
type own struct{ provider aws.CredentialsProvider }

func (o own) Lookup(ctx context.Context, accessKeyID string) (sigv4.Credential, error) {
	credentials, err := o.provider.Retrieve(ctx)
	if err != nil {
		return sigv4.Credential{}, fmt.Errorf("get AWS credentials: %w", err)
	}
	if credentials.AccessKeyID != accessKeyID {
		return sigv4.Credential{}, sigv4.ErrUnknownKey
	}
	return sigv4.Credential{AccessKeyID: accessKeyID, SecretAccessKey: credentials.SecretAccessKey, SessionToken: credentials.SessionToken}, nil
}

// refuse answers as the EKS API does.
func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message}) // the caller is gone if this fails
}
