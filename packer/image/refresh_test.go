package image

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/debian/debiantest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/release"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// debianOfATest serves all that a machine and the tools are made of, each at version 1.
func debianOfATest(t *testing.T, date time.Time) (*debiantest.Archive, map[string]lock.Package) {
	t.Helper()
	archive, packages := debiantest.NewArchive(t), map[string]lock.Package{}
	packages["apt"] = archive.Add("apt", "1", date)
	packages["base-files"] = archive.Add("base-files", "1", date, "Essential: yes")
	for _, name := range slices.Concat(machinePackages, toolPackages) {
		if _, twice := packages[name]; !twice {
			packages[name] = archive.Add(name, "1", date)
		}
	}
	return archive, packages
}

func pick(packages map[string]lock.Package, names ...string) []lock.Package {
	var list []lock.Package
	for _, name := range append([]string{"apt", "base-files"}, names...) {
		if p := packages[name]; !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	lock.SortPackages(list)
	return list
}

func TestALockIsRefreshedToWhatABakeWouldTake(t *testing.T) {
	if _, err := os.Stat("/usr/lib/apt/apt-helper"); err != nil {
		t.Skip("there is no apt")
	}
	date := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	archive, packages := debianOfATest(t, date)
	own := lock.Package{Name: "own", Version: "1", Architecture: "all", Source: "own", SourceVersion: "1"}
	old := lock.Lock{
		Suite: suite, Architecture: architecture, Epoch: date, Plugin: plugin(),
		Options: lock.Options{DiskSize: 6 * gib, RootFilesystem: rootVerity},
		Machine: pick(packages, machinePackages...), Tools: pick(packages, toolPackages...),
		Provisioned: []lock.Package{archive.Add("tree", "1", date), archive.Add("bc", "1", date), own},
		Removed:     []string{"bc"},
		Images:      []lock.Image{{Names: []string{"pause:1"}, Digest: "sha256:0"}},
	}
	c := &Config{CacheDirectory: t.TempDir()}
	refresh := func() lock.Lock {
		t.Helper()
		dir := t.TempDir()
		apt := debian.Apt{
			Dir: dir, Sources: []string{"deb [trusted=yes] " + archive.URL + " ./"}, Architecture: architecture,
			Archives: debian.Archives{debian.Main: archive.URL}, Environment: tree.Environment(time.Time{}),
		}
		fresh, err := c.refresh(t.Context(), apt, old, func(s string) { t.Error(s) })
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	if changes := lock.Diff(old, refresh()); len(changes) > 0 {
		t.Errorf("nothing is newer, and the difference is %q", changes)
	}

	archive.Add("systemd", "2", date.Add(time.Hour), "Depends: libnew")
	archive.Add("libnew", "1", date)
	archive.Add("erofs-utils", "2", date.AddDate(1, 0, 0))
	archive.Add("tree", "2", date)
	fresh := refresh()
	want := []string{
		"  epoch: 2026-01-01T00:00:00Z -> 2026-01-01T01:00:00Z",
		"  machine: + libnew 1", "  machine: systemd 1 -> 2",
		"  provisioned: tree 1 -> 2",
		"  tools: erofs-utils 1 -> 2",
	}
	if got := lock.Diff(old, fresh); !slices.Equal(got, want) {
		t.Errorf("the difference is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	name := filepath.Join(t.TempDir(), lock.FileName)
	if err := replaceLock(name, fresh); err != nil {
		t.Fatal(err)
	}
	read, err := lock.Read(name)
	if err != nil || !read.Refreshed || len(lock.Diff(fresh, read)) > 0 {
		t.Errorf("wrote %+v, %v", read, err)
	}
}

func TestRefreshingNamesTheComponentsThatThePluginPins(t *testing.T) {
	releases, err := release.Releases()
	if err != nil {
		t.Fatal(err)
	}
	pinned := releases[0]
	var old []lock.Component
	for _, c := range pinned.Components {
		old = append(old, lock.Component{Name: c.Name, Version: c.Version, Programs: []lock.Program{{Name: c.Name}}})
	}
	old = append(old, lock.Component{Name: "ovenbird-agent", Version: "0.1.0"})
	if got, err := refreshComponents(old); err != nil || len(lock.Diff(lock.Lock{Components: old}, lock.Lock{Components: got})) > 0 {
		t.Errorf("with all as it is pinned: %+v, %v", got, err)
	}
	patched := slices.Clone(old)
	patched[0].Version = release.Minor(old[0].Version) + ".0"
	got, err := refreshComponents(patched)
	if err != nil || got[0].Version != old[0].Version || got[0].Programs != nil {
		t.Errorf("an older patch of Kubernetes becomes %+v, %v", got, err)
	}
	patched[0].Version = "1.2.3"
	if got, err := refreshComponents(patched); err != nil || got[0].Version != "1.2.3" {
		t.Errorf("a minor that nobody pins becomes %+v, %v", got, err)
	}
}

func TestToolsThatNoBuildHasUsedForLongMakeRoom(t *testing.T) {
	parent := t.TempDir()
	write(t, parent, map[string]string{suite + "-old/x": "", suite + "-new/x": "", "other/x": ""})
	long := time.Now().Add(-2 * unused)
	for _, dir := range []string{suite + "-old", "other"} {
		if err := os.Chtimes(filepath.Join(parent, dir), long, long); err != nil {
			t.Fatal(err)
		}
	}
	(&bake{}).removeUnused(parent)
	if left := below(t, parent); !slices.Equal(left, []string{"other", "other/x", suite + "-new", suite + "-new/x"}) {
		t.Errorf("left %v", left)
	}
}
