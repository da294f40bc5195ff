// Package rootfstest compares the files that a package computes with those kept beside
// its tests. `go test ./... -update` rewrites them.
package rootfstest

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Golden fails t unless files are exactly those kept under testdata/golden/name. A file
// that must not exist must have no golden file either.
func Golden(t *testing.T, name string, files []rootfs.File) {
	t.Helper()
	Compare(t, filepath.Join("testdata", "golden", name), files)
}

// Compare is Golden with files that are kept under the directory kept.
func Compare(t *testing.T, kept string, files []rootfs.File) {
	t.Helper()
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
			t.Errorf("%s differs from %s (run go test with -update if that is meant):\n%s", file.Path, kept, difference(string(want), string(file.Data)))
		}
	}
	for path := range left {
		t.Errorf("%s is in %s but was not computed", path, kept)
	}
}

// difference shows the lines from the first that differs to the last, - as kept and + as
// computed, between what comes right before and after. A flag is a line.
func difference(kept, computed string) string {
	lines := func(text string) []string { return strings.Split(strings.ReplaceAll(text, " --", "\n --"), "\n") }
	was, is := lines(kept), lines(computed)
	start := 0
	for start < min(len(was), len(is)) && was[start] == is[start] {
		start++
	}
	end := 0
	for end < min(len(was), len(is))-start && was[len(was)-1-end] == is[len(is)-1-end] {
		end++
	}
	const context = 2
	var shown []string
	show := func(mark string, lines []string) {
		for _, line := range lines {
			shown = append(shown, mark+line)
		}
	}
	show("  ", was[max(0, start-context):start])
	show("- ", was[start:len(was)-end])
	show("+ ", is[start:len(is)-end])
	after := is[len(is)-end:]
	show("  ", after[:min(context, len(after))])
	return strings.Join(shown, "\n")
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
