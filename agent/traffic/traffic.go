// Package traffic counts what a joining node asks of others: calls and the bytes of their
// bodies, by whom it asks. Whoever makes an HTTP client wraps its transport here. Counting
// is a few atomic additions a call; nothing is buffered, changed or looked at.
package traffic

import (
	"context"
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
	return fmt.Sprintf("%d %s (%s sent, %s received)", c.Calls, noun, Size(c.Sent), Size(c.Received))
}

// Size writes bytes for people.
func Size(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f kB", float64(bytes)/1000)
}

// Meter counts; its zero value is ready. Its fields wrap the transports of those who call.
type Meter struct{ Metadata, AWS, APIServer Service }

// Counts returns what was counted so far.
func (m *Meter) Counts() Counts {
	return Counts{Metadata: m.Metadata.Count(), AWS: m.AWS.Count(), APIServer: m.APIServer.Count()}
}

// Bytes returns those of both directions.
func (c Count) Bytes() int64 { return c.Sent + c.Received }

// Total returns the traffic with all services.
func (c Counts) Total() Count {
	total := Count{}
	for _, count := range []Count{c.Metadata, c.AWS, c.APIServer} {
		total.Calls += count.Calls
		total.Sent += count.Sent
		total.Received += count.Received
	}
	return total
}

type onBehalf struct{}

// OnBehalf makes calls with the context that it returns count for s too, to whatever
// service they go.
func OnBehalf(ctx context.Context, s *Service) context.Context {
	return context.WithValue(ctx, onBehalf{}, s)
}

// Service counts the traffic with one service, or on behalf of one who calls.
type Service struct{ calls, sent, received atomic.Int64 }

// Count returns what was counted so far.
func (s *Service) Count() Count {
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
	services := []*Service{t.service}
	if caller, ok := r.Context().Value(onBehalf{}).(*Service); ok {
		services = append(services, caller)
	}
	var sent, received []*atomic.Int64
	for _, service := range services {
		service.calls.Add(1)
		sent, received = append(sent, &service.sent), append(received, &service.received)
	}
	if r.Body != nil && r.Body != http.NoBody {
		counted := *r // a RoundTripper must not change the request that it is given
		counted.Body = &body{r.Body, sent}
		r = &counted
	}
	response, err := t.next.RoundTrip(r)
	// The body of a switch of protocols is a connection, which a reader would hide.
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		response.Body = &body{response.Body, received}
	}
	return response, err
}

// CloseIdleConnections lets http.Client reach the transport.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

type body struct {
	io.ReadCloser
	bytes []*atomic.Int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for _, bytes := range b.bytes {
		bytes.Add(int64(n))
	}
	return n, err
}
