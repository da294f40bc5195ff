// Package rootfstest compares the files that a package computes with those kept beside
// its tests. `go test ./... -update` rewrites them.
package rootfstest

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Golden fails t unless files are exactly those kept under testdata/golden/name. A file
// that must not exist must have no golden file either.
func Golden(t *testing.T, name string, files []rootfs.File) {
	t.Helper()
	kept := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.RemoveAll(kept); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			file.Mode = 0 // modes are no business of a golden file
			if err := rootfs.Root(kept).Apply(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := paths(t, kept)
	for _, file := range files {
		if file.Data == nil {
			continue
		}
		delete(left, file.Path)
		want, err := os.ReadFile(filepath.Join(kept, file.Path))
		if err != nil {
			t.Errorf("%v (run go test with -update if the new file is meant)", err)
			continue
		}
		if !bytes.Equal(file.Data, want) {
			t.Errorf("%s differs from %s (run go test with -update if that is meant); got:\n%s", file.Path, kept, file.Data)
		}
	}
	for path := range left {
		t.Errorf("%s is in %s but was not computed", path, kept)
	}
}

func paths(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		found["/"+relative] = true
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return found
}
