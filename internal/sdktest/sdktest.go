// Package sdktest is what tests with the AWS SDK against a server of their own need.
package sdktest

import (
	"io"
	"net/http"
	"net/http/httptest"
)

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
