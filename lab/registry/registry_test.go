package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/zap/zaptest"
)

func open(t *testing.T, dir string, guest bool) Pusher {
	t.Helper()
	r, err := Open(dir, func(netip.Addr) bool { return guest }, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(r)
	t.Cleanup(server.Close)
	return Pusher{Client: server.Client(), URL: server.URL}
}

func get(t *testing.T, p Pusher, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func image(t *testing.T) v1.Image {
	t.Helper()
	i, err := random.Image(1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWhatWasPushedIsPulledAfterTheLabWasKilled(t *testing.T) {
	dir, i := t.TempDir(), image(t)
	raw, err := i.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	before := open(t, dir, false)
	for range 2 { // the second time there is nothing to send
		if err := before.Push(t.Context(), "team/tool", "1.0", i); err != nil {
			t.Fatal(err)
		}
	}
	after := open(t, dir, true)
	digest, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"1.0", digest.String()} {
		if status, body := get(t, after, "/v2/team/tool/manifests/"+reference); status != http.StatusOK || body != string(raw) {
			t.Errorf("%s: %d %s", reference, status, body)
		}
	}
	layers, err := i.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		size, err := layer.Size()
		if err != nil {
			t.Fatal(err)
		}
		if status, body := get(t, after, "/v2/team/tool/blobs/"+digest.String()); status != http.StatusOK || int64(len(body)) != size {
			t.Errorf("layer %s: %d, %d bytes", digest, status, len(body))
		}
	}
}

func TestAnInstanceMayOnlyPull(t *testing.T) {
	dir, i := t.TempDir(), image(t)
	err := open(t, dir, true).Push(t.Context(), "team/tool", "1.0", i)
	if err == nil || !strings.Contains(err.Error(), "DENIED") {
		t.Errorf("pushed: %v", err)
	}
	if status, _ := get(t, open(t, dir, true), "/v2/team/tool/manifests/1.0"); status != http.StatusNotFound {
		t.Errorf("what was refused is there: %d", status)
	}
}

func TestALayerOfAnotherContentIsRefused(t *testing.T) {
	p := open(t, t.TempDir(), false)
	err := p.send(t.Context(), http.MethodPost, p.URL+"/v2/a/b/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64),
		"application/octet-stream", strings.NewReader("other"), 5)
	if err == nil {
		t.Error("it was taken")
	}
}
