// Package apiserver is the cluster's API as a joining node needs it: is it there, sign
// this certificate request, what does it know about my Node. It does not retry; the
// caller does, and reports it.
package apiserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// requestTimeout bounds every request but watches, which the caller's context bounds.
const requestTimeout = 15 * time.Second

// longestBody bounds an answer: the pods of a node are a few MiB at the very most.
const longestBody = 64 << 20

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
type Client struct {
	http      *http.Client
	base      *url.URL
	userAgent string
}

// New returns a client. It makes no call.
//
// It speaks HTTP and JSON itself: client-go, with the types of the API that it needs, takes
// longer to initialise than a node takes to join.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.Endpoint)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("make a client for %s: want https://host:port", config.Endpoint)
	}
	transport, err := transportOf(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Endpoint, err)
	}
	if config.Wrap != nil {
		transport = config.Wrap(transport)
	}
	if config.Token != nil {
		now := config.Now
		if now == nil {
			now = time.Now
		}
		transport = bearer{config.Token, now, transport}
	}
	// Nobody else is to see the token.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{&http.Client{Transport: transport, CheckRedirect: stay}, base, config.UserAgent}, nil
}

func transportOf(config Config) (http.RoundTripper, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !secure.RootCAs.AppendCertsFromPEM(config.CA) {
		return nil, errors.New("the cluster's certificate authority has no certificate in PEM")
	}
	if len(config.Certificate) > 0 {
		pair, err := tls.X509KeyPair(config.Certificate, config.Key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate: %w", err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	dialer := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               config.Proxy,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     secure,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
		// A watch notices so that its connection is dead, which the kernel takes a quarter
		// of an hour for. client-go has the same times.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}, nil
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

// call is one request.
type call struct {
	method, path string
	query        url.Values
	contentType  string
	body         any // sent as JSON; nil: nothing
}

// send sends a call and returns an answer that is a success, whose body is to be closed.
func (c *Client) send(ctx context.Context, call call) (*http.Response, error) {
	var body io.Reader
	if call.body != nil {
		data, err := json.Marshal(call.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	target := *c.base.JoinPath(call.path)
	target.RawQuery = call.query.Encode()
	request, err := http.NewRequestWithContext(ctx, call.method, target.String(), body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		request.Header.Set("Content-Type", cmp.Or(call.contentType, "application/json"))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		defer response.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(response.Body, longestBody))
		return nil, refused(request, response, said)
	}
	return response, nil
}

// do makes a call and reads its answer into a pointer, which may be nil.
func (c *Client) do(ctx context.Context, call call, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestBody)) // to its end, so that the connection is kept
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// Ready returns nil when the API server says that it is ready to serve.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.do(ctx, call{method: http.MethodGet, path: "/readyz"}, nil); err != nil {
		return fmt.Errorf("ask the API server whether it is ready: %w", explain(err))
	}
	return nil
}

// AwaitNode watches the Node name until done says that it is as wanted, and returns it.
// An error from done ends the wait too.
func (c *Client) AwaitNode(ctx context.Context, name string, done func(*Node) (bool, error)) (*Node, error) {
	node, err := await(ctx, c, nodesPath, name, done)
	if err != nil {
		return nil, fmt.Errorf("watch Node %s: %w", name, err)
	}
	return node, nil
}

var (
	errWatchEnded = errors.New("the API server ended the watch")
	errDeleted    = errors.New("it was deleted")
)

// event is a WatchEvent (meta/v1).
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// await watches one object of those at path until done says so. A watch without a resource
// version begins with the object as it is, so no other request is needed.
func await[T any](ctx context.Context, c *Client, path, name string, done func(*T) (bool, error)) (*T, error) {
	response, err := c.send(ctx, call{
		method: http.MethodGet, path: path, query: url.Values{"watch": {"true"}, "fieldSelector": {"metadata.name=" + name}},
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, explain(err)
	}
	defer response.Body.Close()
	events := json.NewDecoder(response.Body)
	for {
		var next event
		err := events.Decode(&next)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errWatchEnded
		case err != nil:
			return nil, fmt.Errorf("read the watch: %w", err)
		}
		switch next.Type {
		case "ADDED", "MODIFIED":
			object := new(T)
			if err := json.Unmarshal(next.Object, object); err != nil {
				return nil, fmt.Errorf("read the watch: %w", err)
			}
			if ok, err := done(object); ok || err != nil {
				return object, err
			}
		case "DELETED":
			return nil, errDeleted
		case "ERROR":
			var said status
			if err := json.Unmarshal(next.Object, &said); err != nil {
				return nil, fmt.Errorf("read the watch: %w", err)
			}
			return nil, explain(said.err())
		}
	}
}
