// Package traffic counts what a joining node asks of others: calls and the bytes of their
// bodies, by whom it asks. Whoever makes an HTTP client wraps its transport here. Counting
// is a few atomic additions a call; nothing is buffered, changed or looked at.
package traffic

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// Count is the traffic with one service. A call is a request, be it answered or not; a
// redirect and a token that the metadata service wants first are calls too.
type Count struct {
	Calls    int64 `json:"calls"`
	Sent     int64 `json:"sentBytes"`     // of request bodies
	Received int64 `json:"receivedBytes"` // of response bodies, as far as they were read
}

// Counts are the traffic of a node.
type Counts struct {
	Metadata  Count `json:"instanceMetadata"`
	AWS       Count `json:"aws"` // the APIs of AWS
	APIServer Count `json:"apiServer"`
}

// String says it in a line.
func (c Counts) String() string {
	return fmt.Sprintf("%s to instance metadata, %s to AWS APIs, %s to the API server", c.Metadata, c.AWS, c.APIServer)
}

// String says it in a few words.
func (c Count) String() string {
	noun := "calls"
	if c.Calls == 1 {
		noun = "call"
	}
	if c.Calls == 0 {
		return "0 calls"
	}
	return fmt.Sprintf("%d %s (%s sent, %s received)", c.Calls, noun, size(c.Sent), size(c.Received))
}

func size(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f kB", float64(bytes)/1000)
}

// Meter counts; its zero value is ready. Its fields wrap the transports of those who call.
type Meter struct{ Metadata, AWS, APIServer Service }

// Counts returns what was counted so far.
func (m *Meter) Counts() Counts {
	return Counts{Metadata: m.Metadata.count(), AWS: m.AWS.count(), APIServer: m.APIServer.count()}
}

// Service counts the traffic with one service.
type Service struct{ calls, sent, received atomic.Int64 }

func (s *Service) count() Count {
	return Count{Calls: s.calls.Load(), Sent: s.sent.Load(), Received: s.received.Load()}
}

// Wrap returns next, counted.
func (s *Service) Wrap(next http.RoundTripper) http.RoundTripper { return &transport{s, next} }

type transport struct {
	service *Service
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.service.calls.Add(1)
	if r.Body != nil && r.Body != http.NoBody {
		counted := *r // a RoundTripper must not change the request that it is given
		counted.Body = &body{r.Body, &t.service.sent}
		r = &counted
	}
	response, err := t.next.RoundTrip(r)
	// The body of a switch of protocols is a connection, which a reader would hide.
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		response.Body = &body{response.Body, &t.service.received}
	}
	return response, err
}

// WrappedRoundTripper lets client-go find the transport.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// CloseIdleConnections lets http.Client reach the transport.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

type body struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}
