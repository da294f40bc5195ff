// Package sdktest is what tests with the AWS SDK against a server of their own need.
package sdktest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// Keys are the access keys that a server knows, by their IDs. They implement sigv4.Keys.
type Keys map[string]sigv4.Credential

// Lookup implements sigv4.Keys.
func (k Keys) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	if c, ok := k[id]; ok {
		return c, nil
	}
	return sigv4.Credential{}, sigv4.ErrUnknownKey
}

// Client returns the client of server for an SDK that does not retry.
//
// The SDK closes a request's body as soon as it has the response. A server on the same machine
// can answer before net/http has asked the body whether there is more, and the body's WriteTo
// (smithy-go 1.28, safeWriteToReadCloser) answers with io.EOF, which is no end for a WriterTo but
// a failure: net/http drops the connection, and the response with it. So the body has no WriteTo
// here.
func Client(server *httptest.Server) *http.Client {
	client := *server.Client()
	client.Transport = plainBodies{client.Transport}
	return &client
}

type plainBodies struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plainBodies) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		plain := *request
		plain.Body = struct{ io.ReadCloser }{request.Body}
		request = &plain
	}
	return p.RoundTripper.RoundTrip(request)
}
