package image

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/debian/debiantest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// lockedBuilder prepares a build from a lock of two packages, which archive serves, as
// change has changed it. Its mmdebstrap leaves a mark: something was installed.
func lockedBuilder(t *testing.T, archive *debiantest.Archive, change func(*lock.Lock)) (b *Builder, mark, lockFile string) {
	t.Helper()
	date := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	l := lock.Lock{
		Suite: suite, Architecture: architecture, Epoch: date, Plugin: plugin(),
		Options: lock.Options{DiskSize: 6 * gib, RootFilesystem: rootVerity},
		Machine: []lock.Package{archive.Add("one", "1.0-1", date)},
		Tools:   []lock.Package{archive.Add("two", "2.0-1", date)},
	}
	change(&l)
	text, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	lockFile, mark = filepath.Join(dir, lock.FileName), filepath.Join(dir, "mark")
	write(t, dir, map[string]string{lock.FileName: string(text)})
	b, _ = testBuilder(t, ": >"+mark+"; exit 1", map[string]any{
		"lock_file": lockFile, "mirror": archive.URL, "security_mirror": archive.URL,
	})
	return b, mark, lockFile
}

func TestALockIsTakenAtItsWordOrRefusedBeforeAnythingIsInstalled(t *testing.T) {
	for _, test := range []struct {
		name      string
		change    func(*lock.Lock)
		want      string // of the error; LOCK is the lock's name
		installed bool
	}{
		{"as it was written", func(*lock.Lock) {}, "mmdebstrap", true},
		{"a changed hash", func(l *lock.Lock) { l.Machine[0].SHA256 = strings.Repeat("0", 64) }, "is not the .deb of SHA-256 0000", false},
		{"a changed name", func(l *lock.Lock) { l.Machine[0].Name = "other" }, "is one 1.0-1 (amd64) of source one 1.0-1, not other 1.0-1", false},
		{"a changed version", func(l *lock.Lock) { l.Machine[0].Version = "1.0-2" }, "is one 1.0-1 (amd64) of source one 1.0-1, not one 1.0-2", false},
		{"a changed date", func(l *lock.Lock) { l.Epoch = l.Epoch.Add(time.Second) }, "its epoch is 2026-03-04T05:06:08Z", false},
		{"another disk", func(l *lock.Lock) { l.Options.DiskSize = 2 * gib }, "options: disk_size: 2147483648 -> 6442450944", false},
		{"another plugin", func(l *lock.Lock) { l.Plugin.Commit = "older" }, "plugin: 0.0.0-dev older -> 0.0.0-dev unknown", false},
		{"a version that has vanished", func(l *lock.Lock) { l.Machine[0].Path = "pool/gone.deb" },
			"fetch one 1.0-1 (amd64)|no longer has it|`ovenbird-image refresh LOCK`", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, mark, lockFile := lockedBuilder(t, debiantest.NewArchive(t), test.change)
			err := bakeWith(t.Context(), t, b)
			for want := range strings.SplitSeq(strings.ReplaceAll(test.want, "LOCK", lockFile), "|") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the error is %v, want %q in it", err, want)
				}
			}
			if _, err := os.Stat(mark); (err == nil) != test.installed {
				t.Errorf("something was installed: %v, want %v", err == nil, test.installed)
			}
		})
	}
}

func TestAPackageThatWasTamperedWithInTheCacheIsNotInstalled(t *testing.T) {
	archive := debiantest.NewArchive(t)
	var machine lock.Package
	b, mark, _ := lockedBuilder(t, archive, func(l *lock.Lock) { machine = l.Machine[0] })
	stored := b.config.store().Path(machine)
	write(t, filepath.Dir(stored), map[string]string{filepath.Base(stored): "tampered"})
	archive.Serve(machine.Path, nil)
	if err := bakeWith(t.Context(), t, b); err == nil || !strings.Contains(err.Error(), "fetch one 1.0-1 (amd64)") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something was installed")
	}
}

func TestWhatWasBuiltMustBeWhatTheLockSays(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"usr/bin/x": ""})
	l := lock.Lock{Images: []lock.Image{{Names: []string{"pause:1"}, Digest: "sha256:0"}}}
	b := &bake{config: &Config{locked: &l, LockFile: "the.lock"}}
	b.root.Dir = root
	err := (&stepRecord{b}).record(t.Context())
	if err == nil || !strings.Contains(err.Error(), "images: - pause:1@sha256:0") || !strings.Contains(err.Error(), "the.lock") {
		t.Errorf("the error is %v", err)
	}
	l.Refreshed = true
	if err := (&stepRecord{b}).record(t.Context()); err != nil {
		t.Errorf("a refreshed lock does not decide images: %v", err)
	}
}

func TestASurveyFindsWhatProvisionersHaveDone(t *testing.T) {
	status := func(name, version string) string {
		return "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"
	}
	root := t.TempDir()
	write(t, root, map[string]string{
		"var/lib/dpkg/status": status("kept", "1") + status("replaced", "2") + status("new", "1"),
		"var/log/dpkg.log": "2026-01-01 00:00:00 upgrade replaced:amd64 1 2\n2026-01-01 00:00:00 install new:amd64 <none> 1\n" +
			"2026-01-01 00:00:00 install compiler:amd64 <none> 14\n2026-01-01 00:00:00 remove compiler:amd64 14 <none>\n",
	})
	entry := func(name, version string) lock.Package {
		sum := sha256.Sum256([]byte(name))
		return lock.Package{Name: name, Version: version, Architecture: "amd64", SHA256: hex.EncodeToString(sum[:])}
	}
	locked := lock.Lock{Provisioned: []lock.Package{entry("replaced", "2"), entry("new", "1"), entry("compiler", "14")}}
	b := &bake{config: &Config{locked: &locked, CacheDirectory: t.TempDir()}, work: t.TempDir()}
	b.root.Dir, b.ui = root, packersdk.TestUi(t)
	for _, p := range locked.Provisioned {
		write(t, filepath.Dir(b.config.store().Path(p)), map[string]string{filepath.Base(b.config.store().Path(p)): p.Name})
	}
	b.lock.Machine = []lock.Package{entry("kept", "1"), entry("replaced", "1"), entry("purged", "1")}
	if err := b.survey(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := lock.Lock{Machine: b.lock.Machine, Provisioned: locked.Provisioned, Removed: []string{"purged", "compiler"}}
	if changes := lock.Diff(want, b.lock); len(changes) > 0 {
		t.Errorf("the survey differs: %q", changes)
	}
}

func TestTheNodeNamesDebiansOwnArchives(t *testing.T) {
	b := &bake{config: &Config{Mirror: "http://m/debian", SecurityMirror: "http://m/debian-security"}, work: t.TempDir()}
	b.root.Dir = t.TempDir()
	if err := b.openArchives(); err != nil {
		t.Fatal(err)
	}
	during, _ := os.ReadFile(filepath.Join(b.root.Dir, aptSources))
	if !strings.Contains(string(during), "] http://m/debian trixie main") || len(b.root.Binds) != 1 {
		t.Errorf("provisioners install from %s with %v", during, b.root.Binds)
	}
	if err := b.closeArchives(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(filepath.Join(b.root.Dir, aptSources))
	if want := strings.Join(sources((&Config{}).archives()), "\n") + "\n"; string(after) != want {
		t.Errorf("the node has\n%s\nwant\n%s", after, want)
	}
	if left := below(t, filepath.Join(b.root.Dir, "etc/apt/apt.conf.d")); len(left) > 0 || len(b.root.Binds) > 0 {
		t.Errorf("left are %v, %v", left, b.root.Binds)
	}
}

func TestAToolsTreeBelongsToItsPackages(t *testing.T) {
	a := toolsDirectory("/cache", []lock.Package{{Name: "x", Version: "1", SHA256: "a"}})
	b := toolsDirectory("/cache", []lock.Package{{Name: "x", Version: "1", SHA256: "b"}})
	if a == b || filepath.Dir(a) != "/cache/tools" {
		t.Errorf("the trees are %s and %s", a, b)
	}
}

func TestAProgramOfALayerIsOvenbirdNodesOwn(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{snapshots + "/9/fs/pause": "ours", snapshots + "/10/fs/pause": "theirs", snapshots + "/11/fs/other": ""})
	got, err := findProgram(root, "pause")
	sum := sha256.Sum256([]byte("ours"))
	if want := (lock.Program{Name: "pause", SHA256: hex.EncodeToString(sum[:])}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := findProgram(root, "coredns"); err == nil || !strings.Contains(err.Error(), "no container image has the program /coredns") {
		t.Errorf("of a program that is nowhere the error is %v", err)
	}
}
