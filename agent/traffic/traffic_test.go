package traffic_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCallsAndBytesAreCountedByService(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(server.Close)
	var meter traffic.Meter
	client := http.Client{Transport: meter.APIServer.Wrap(http.DefaultTransport)}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			response, err := client.Post(server.URL, "text/plain", strings.NewReader("four"))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			if data, err := io.ReadAll(response.Body); err != nil || string(data) != "answer" {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
	all.Wait()
	if got, want := meter.Counts(), (traffic.Counts{APIServer: traffic.Count{Calls: 10, Sent: 40, Received: 60}}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestACallThatFailsIsACallAndTheRequestIsLeftAlone(t *testing.T) {
	var meter traffic.Meter
	refused := errors.New("refused")
	request := httptest.NewRequest(http.MethodPost, "http://169.254.169.254/", strings.NewReader("x"))
	before := request.Body
	_, err := meter.Metadata.Wrap(roundTripper(func(*http.Request) (*http.Response, error) { return nil, refused })).RoundTrip(request) //nolint:bodyclose // there is none
	if !errors.Is(err, refused) || request.Body != before || meter.Counts().Metadata.Calls != 1 {
		t.Errorf("got %v, %+v", err, meter.Counts())
	}
}

func TestTheConnectionOfASwitchOfProtocolsIsHandedOn(t *testing.T) {
	var meter traffic.Meter
	connection := struct{ io.ReadWriteCloser }{}
	response, err := meter.AWS.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: connection}, nil
	})).RoundTrip(httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)) //nolint:bodyclose // it is nothing
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := response.Body.(io.Writer); !ok {
		t.Errorf("the body is a %T", response.Body)
	}
}

func TestACallCountsForItsServiceAndForWhoCalls(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(server.Close)
	var meter traffic.Meter
	var caller traffic.Service
	for _, service := range []*traffic.Service{&meter.AWS, &meter.APIServer} {
		for _, ctx := range []context.Context{t.Context(), traffic.OnBehalf(t.Context(), &caller)} {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("four"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := service.Wrap(http.DefaultTransport).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	two := traffic.Count{Calls: 2, Sent: 8, Received: 12}
	if got := meter.Counts(); caller.Count() != two || got.AWS != two || got.APIServer != two || got.Total() != (traffic.Count{Calls: 4, Sent: 16, Received: 24}) {
		t.Errorf("got %+v for the services, %+v for the caller", got, caller.Count())
	}
}

func TestCountsReadAsASentence(t *testing.T) {
	counts := traffic.Counts{Metadata: traffic.Count{Calls: 9, Received: 4210}, APIServer: traffic.Count{Calls: 1, Sent: 812, Received: 40}}
	want := "9 calls (0 B sent, 4.2 kB received) to instance metadata, 0 calls to AWS APIs, 1 call (812 B sent, 40 B received) to the API server"
	if got := counts.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
