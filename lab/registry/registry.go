// Package registry is a container registry on the lab's network, for images of people's
// own. Nodes pull from it; only the host may push. What was pushed outlives the lab's
// daemon.
package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// maxManifest is what registries commonly take, in bytes.
const maxManifest = 4 << 20

// Registry implements http.Handler with the OCI distribution API. Blobs are files.
// go-containerregistry keeps manifests in memory, so each is in a file as well, which Open
// pushes again.
type Registry struct {
	handler http.Handler
	dir     string
	guest   func(netip.Addr) bool
}

// manifest is a pushed one.
type manifest struct {
	Path        string `json:"path"` // /v2/<repository>/manifests/<tag or digest>
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

// Open makes the registry over dir. Addresses that are a guest's may only pull.
func Open(dir string, guest func(netip.Addr) bool, logger *zap.Logger) (*Registry, error) {
	r := &Registry{dir: dir, guest: guest}
	for _, part := range []string{"blobs", "manifests"} {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o755); err != nil { //nolint:gosec // as the rest of the state directory
			return nil, fmt.Errorf("make the registry's directory: %w", err)
		}
	}
	log, err := zap.NewStdLogAt(logger, zap.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("make the registry's log: %w", err)
	}
	r.handler = ggcr.New(ggcr.Logger(log), ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(filepath.Join(dir, "blobs"))))
	return r, r.restore()
}

// restore pushes the manifests that were there. An index goes in once what it names has.
func (r *Registry) restore() error {
	files, err := filepath.Glob(filepath.Join(r.dir, "manifests", "*.json"))
	if err != nil {
		return fmt.Errorf("look for the registry's manifests: %w", err)
	}
	for len(files) > 0 {
		var left []string
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read a manifest of the registry: %w", err)
			}
			var m manifest
			if err := json.Unmarshal(data, &m); err != nil {
				return fmt.Errorf("read the registry's manifest in %s: %w", file, err)
			}
			if r.put(m).status != http.StatusCreated {
				left = append(left, file)
			}
		}
		if len(left) == len(files) {
			return fmt.Errorf("the registry does not take its own manifest in %s: remove the file, and load that image again", left[0])
		}
		files = left
	}
	return nil
}

// put pushes a manifest.
func (r *Registry) put(m manifest) *answer {
	request, err := http.NewRequest(http.MethodPut, "http://registry"+m.Path, bytes.NewReader(m.Body)) //nolint:noctx // goes nowhere
	if err != nil {
		return &answer{status: http.StatusBadRequest}
	}
	request.Header.Set("Content-Type", m.ContentType)
	a := &answer{header: http.Header{}, status: http.StatusOK}
	r.handler.ServeHTTP(a, request)
	return a
}

// answer is a response that is looked at before it is sent.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodGet || request.Method == http.MethodHead {
		r.handler.ServeHTTP(w, request)
		return
	}
	if from, err := netip.ParseAddrPort(request.RemoteAddr); err != nil || r.guest(from.Addr().Unmap()) {
		refuse(w, http.StatusForbidden, "DENIED", "instances may only pull; push with `ovenbird-lab load-image`")
		return
	}
	parts := strings.Split(request.URL.Path, "/")
	if len(parts) < 5 || parts[len(parts)-2] != "manifests" {
		r.handler.ServeHTTP(w, request)
		return
	}
	if request.Method != http.MethodPut {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the lab's registry keeps what was pushed")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxManifest))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", err.Error())
		return
	}
	r.keep(w, manifest{Path: request.URL.Path, ContentType: request.Header.Get("Content-Type"), Body: body})
}

// keep pushes a manifest, and writes it down before it says so.
func (r *Registry) keep(w http.ResponseWriter, m manifest) {
	a := r.put(m)
	if a.status == http.StatusCreated {
		sum := sha256.Sum256([]byte(m.Path))
		if err := state.WriteJSON(filepath.Join(r.dir, "manifests", hex.EncodeToString(sum[:])+".json"), m, 0o644); err != nil {
			refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
			return
		}
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = a.body.WriteTo(w)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure{Errors: []failed{{code, message}}})
}

// failure is how the distribution API says no.
type failure struct {
	Errors []failed `json:"errors"`
}

type failed struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// reason is why a registry refused.
func reason(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	var f failure
	if err == nil && json.Unmarshal(text, &f) == nil && len(f.Errors) > 0 {
		return fmt.Errorf("%s: %s: %s", response.Status, f.Errors[0].Code, f.Errors[0].Message)
	}
	return errors.New(response.Status)
}
