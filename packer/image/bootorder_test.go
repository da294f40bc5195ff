package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatABootReadsIsLinkedInOrder(t *testing.T) {
	root := t.TempDir()
	for name, mode := range map[string]fs.FileMode{
		"usr/bin/kubelet": 0o755, "usr/bin/cat": 0o755, "usr/bin/never": 0o755, "usr/bin/mount": 0o755 | fs.ModeSetuid,
		"usr/lib/x86_64-linux-gnu/libc.so.6": 0o755, "usr/lib/modules/9.9/kernel/net/bridge/bridge.ko.xz": 0o644,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("libc.so.6", filepath.Join(root, "usr/lib/x86_64-linux-gnu/libc.so.old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := orderFiles(root); err != nil {
		t.Fatal(err)
	}
	links, err := os.ReadDir(filepath.Join(root, bootOrder))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, link := range links {
		_, name, _ := strings.Cut(link.Name(), "-")
		got = append(got, name)
	}
	if want := "cat bridge.ko.xz libc.so.6 kubelet"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	first, err := os.Stat(filepath.Join(root, bootOrder, links[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	if of, err := os.Stat(filepath.Join(root, "usr/bin/cat")); err != nil || !os.SameFile(first, of) {
		t.Errorf("%s is not usr/bin/cat: %v", links[0].Name(), err)
	}
}
