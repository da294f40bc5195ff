// Package debiantest makes small .debs and an archive that serves them, for tests.
package debiantest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Deb makes a .deb with nothing in it but its control file.
func Deb(control string, date time.Time) []byte {
	var controlTar, dataTar, deb bytes.Buffer
	w := tar.NewWriter(&controlTar)
	_ = w.WriteHeader(&tar.Header{Name: "./control", Mode: 0o644, Size: int64(len(control)), ModTime: date})
	_, _ = w.Write([]byte(control))
	_ = w.Close()
	_ = tar.NewWriter(&dataTar).Close()
	deb.WriteString("!<arch>\n")
	for _, member := range []struct {
		name    string
		content []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", controlTar.Bytes()}, {"data.tar", dataTar.Bytes()}} {
		fmt.Fprintf(&deb, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, date.Unix(), 0, 0, "100644", len(member.content))
		deb.Write(member.content)
		if len(member.content)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	return deb.Bytes()
}

// Archive is a Debian archive on this machine: a flat one, at its root.
type Archive struct {
	URL string

	mu    sync.Mutex
	files map[string][]byte
	list  strings.Builder
}

// NewArchive serves an empty archive until the test ends.
func NewArchive(t *testing.T) *Archive {
	t.Helper()
	a := &Archive{files: map[string][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		content, ok := a.files[strings.TrimPrefix(path.Clean(r.URL.Path), "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Add serves a package and returns what a lock says of it. more are lines of its control
// file, such as "Essential: yes".
func (a *Archive) Add(name, version string, date time.Time, more ...string) lock.Package {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n", name, version)
	for _, line := range more {
		control += line + "\n"
	}
	control += "Description: a package\n of a test\n"
	deb := Deb(control, date)
	sum := sha256.Sum256(deb)
	p := lock.Package{
		Name: name, Version: version, Architecture: "amd64", Source: name, SourceVersion: version,
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(deb)), Archive: "debian",
		Path: fmt.Sprintf("pool/%s_%s_amd64.deb", name, strings.ReplaceAll(version, ":", ".")),
	}
	a.Serve(p.Path, deb)
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(&a.list, "%sFilename: %s\nSize: %d\nSHA256: %s\n\n", control, p.Path, p.Size, p.SHA256)
	a.files["Packages"] = []byte(a.list.String())
	return p
}

// Serve puts a file in the archive; nil takes it away.
func (a *Archive) Serve(name string, content []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if content == nil {
		delete(a.files, name)
		return
	}
	a.files[name] = content
}
