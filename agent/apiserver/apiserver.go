// Package apiserver is the cluster's API as a joining node needs it: is it there, sign
// this certificate request, what does it know about my Node. It does not retry; the
// caller does, and reports it.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// requestTimeout bounds every request but watches, which the caller's context bounds.
const requestTimeout = 15 * time.Second

// Config says how to reach the API server and who calls.
type Config struct {
	Endpoint  string // "https://host:port"
	CA        []byte // PEM
	UserAgent string
	Proxy     func(*http.Request) (*url.URL, error)     // nil: none
	Wrap      func(http.RoundTripper) http.RoundTripper // what every request goes through; nil: nothing

	// Who calls: the bearer token that Token returns for each request, or a certificate
	// with its key, in PEM.
	Token       func(context.Context) (string, error)
	Now         func() time.Time // by which tokens are dated; nil: time.Now
	Certificate []byte
	Key         []byte
}

// Client calls one API server as one caller.
type Client struct{ core, certificates *rest.RESTClient }

// New returns a client. It makes no call.
//
// It is made of REST clients over a scheme of two API groups: the typed clients of
// client-go bring every group there is, which doubles the size and the start-up time.
func New(config Config) (*Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, certificatesv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("make a client for %s: %w", config.Endpoint, err)
		}
	}
	base := rest.Config{
		Host:           config.Endpoint,
		UserAgent:      config.UserAgent,
		Proxy:          config.Proxy,
		WrapTransport:  config.Wrap,
		WarningHandler: rest.NoWarnings{}, // they are for the authors of manifests
		QPS:            -1,                // a joining node makes a handful of requests
		TLSClientConfig: rest.TLSClientConfig{
			CAData: config.CA, CertData: config.Certificate, KeyData: config.Key,
		},
		ContentConfig: rest.ContentConfig{
			ContentType:          runtime.ContentTypeJSON,
			NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
		},
	}
	if config.Token != nil {
		now := config.Now
		if now == nil {
			now = time.Now
		}
		base.Wrap(func(next http.RoundTripper) http.RoundTripper { return bearer{config.Token, now, next} })
	}
	httpClient, err := rest.HTTPClientFor(&base)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Endpoint, err)
	}
	client := &Client{}
	for _, group := range []struct {
		path    string
		version schema.GroupVersion
		client  **rest.RESTClient
	}{
		{"/api", corev1.SchemeGroupVersion, &client.core},
		{"/apis", certificatesv1.SchemeGroupVersion, &client.certificates},
	} {
		config := rest.CopyConfig(&base)
		config.APIPath = group.path
		config.GroupVersion = &group.version
		if *group.client, err = rest.RESTClientForConfigAndClient(config, httpClient); err != nil {
			return nil, fmt.Errorf("make a client for %s: %w", base.Host, err)
		}
	}
	return client, nil
}

// bearer shows a token with each request.
type bearer struct {
	token func(context.Context) (string, error)
	now   func() time.Time
	next  http.RoundTripper
}

func (b bearer) RoundTrip(request *http.Request) (*http.Response, error) {
	token, err := b.token(request.Context())
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := b.next.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	if err := clockError(response, b.now()); err != nil {
		response.Body.Close()
		return nil, err
	}
	return response, nil
}

// ErrUnauthorized means that the API server does not take the caller for who it says it is.
var ErrUnauthorized = errors.New("the API server does not accept who is calling")

// Ready returns nil when the API server says that it is ready to serve.
func (c *Client) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := c.core.Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).Error(); err != nil {
		return fmt.Errorf("ask the API server whether it is ready: %w", explain(err))
	}
	return nil
}

// AwaitNode watches the Node name until done says that it is as wanted, and returns it.
// An error from done ends the wait too.
func (c *Client) AwaitNode(ctx context.Context, name string, done func(*corev1.Node) (bool, error)) (*corev1.Node, error) {
	node, err := await(ctx, c.core, "nodes", name, done)
	if err != nil {
		return nil, fmt.Errorf("watch Node %s: %w", name, err)
	}
	return node, nil
}

var (
	errWatchEnded = errors.New("the API server ended the watch")
	errDeleted    = errors.New("it was deleted")
)

// await watches one object until done says so. A watch without a resource version begins
// with the object as it is, so no other request is needed.
func await[T runtime.Object](ctx context.Context, client *rest.RESTClient, resource, name string, done func(T) (bool, error)) (found T, err error) {
	events, err := client.Get().Resource(resource).
		Param("watch", "true").Param("fieldSelector", "metadata.name="+name).
		MaxRetries(0).Watch(ctx)
	if ctx.Err() != nil {
		return found, context.Cause(ctx)
	}
	if err != nil {
		return found, explain(err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Modified:
			object, ok := event.Object.(T)
			if !ok {
				return found, fmt.Errorf("the API server sent a %T", event.Object)
			}
			if ok, err := done(object); ok || err != nil {
				return object, err
			}
		case watch.Deleted:
			return found, errDeleted
		case watch.Error:
			return found, explain(apierrors.FromObject(event.Object))
		}
	}
	if err := context.Cause(ctx); err != nil {
		return found, err
	}
	return found, errWatchEnded
}

// explain marks what a caller decides on and drops a URL that says nothing new.
func explain(err error) error {
	if apierrors.IsUnauthorized(err) {
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
