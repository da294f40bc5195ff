package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestContainerLayersMoveIntoTheRoot(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		snapshots + "/1/fs/pause":            "pause",
		snapshots + "/12/fs/usr/bin/busybox": "busybox",
		"var/lib/containerd/other":           "stays",
	})
	if err := moveLayers(root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{layers + "/1/fs/pause": "pause", layers + "/12/fs/usr/bin/busybox": "busybox", "var/lib/containerd/other": "stays"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); string(got) != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
	for _, n := range []string{"1", "12"} {
		if got, err := os.Readlink(filepath.Join(root, snapshots, n)); got != "/"+layers+"/"+n {
			t.Errorf("the layer %s of containerd leads to %q (%v)", n, got, err)
		}
	}
}

func TestARootWithoutContainerLayersStaysAsItIs(t *testing.T) {
	root := t.TempDir()
	if err := moveLayers(root); err != nil {
		t.Fatal(err)
	}
	if left := below(t, root); len(left) > 0 {
		t.Errorf("made %v", left)
	}
}

func TestTheRootHashIsASHA256(t *testing.T) {
	hash := strings.Repeat("0af9", 16)
	for content, want := range map[string]string{hash: hash, hash + "\n": hash, "": "", hash[:62]: "", strings.Repeat("x", 64): ""} {
		file := filepath.Join(t.TempDir(), "hash")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readRootHash(file); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
}
