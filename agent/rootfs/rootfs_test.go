package rootfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestApplyWritesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	root := rootfs.Root(dir)
	if err := root.Apply(
		rootfs.File{Path: "/etc/a/b.conf", Data: []byte("x")},
		rootfs.File{Path: "/var/key", Mode: 0o600, Data: []byte("secret")},
	); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		data string
		mode os.FileMode
	}{"etc/a/b.conf": {"x", 0o644}, "var/key": {"secret", 0o600}} {
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || string(data) != want.data {
			t.Errorf("%s holds %q, %v", path, data, err)
		}
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode() != want.mode {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "etc/a")); len(entries) != 1 {
		t.Errorf("temporary files are left: %v", entries)
	}
}

func TestApplyLeavesAFileAloneThatIsSoAlready(t *testing.T) {
	dir := t.TempDir()
	file := rootfs.File{Path: "/f", Data: []byte("same")}
	if err := rootfs.Root(dir).Apply(file); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(filepath.Join(dir, "f"))
	if err := rootfs.Root(dir).Apply(file); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(filepath.Join(dir, "f"))
	if !os.SameFile(before, after) {
		t.Error("an unchanged file was replaced")
	}
}

func TestApplyMendsAModeThatIsTooWide(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("k"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := rootfs.Root(dir).Apply(rootfs.File{Path: "/key", Mode: 0o600, Data: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "key")); info.Mode() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
}

func TestApplyRemovesWhatMustNotExist(t *testing.T) {
	dir := t.TempDir()
	root := rootfs.Root(dir)
	for range 2 { // the second time it is gone already
		if err := root.Apply(rootfs.File{Path: "/etc/old"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.Apply(rootfs.File{Path: "/etc/old", Data: []byte("x")}, rootfs.File{Path: "/etc/old"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc/old")); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestUpToDateIsWhatApplyWouldLeaveAlone(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	a, gone := rootfs.File{Path: "/a", Data: []byte("1")}, rootfs.File{Path: "/b"}
	if root.UpToDate(a, gone) {
		t.Error("a missing file is up to date")
	}
	if err := root.Apply(a, gone); err != nil {
		t.Fatal(err)
	}
	if !root.UpToDate(a, gone) {
		t.Error("what was applied is not up to date")
	}
	private := a
	private.Mode = 0o600
	for _, file := range []rootfs.File{{Path: "/a"}, {Path: "/a", Data: []byte("2")}, private} {
		if root.UpToDate(gone, file) {
			t.Errorf("%+v is up to date", file)
		}
	}
}
