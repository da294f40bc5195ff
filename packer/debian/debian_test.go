package debian

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/debian/debiantest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

var date = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// apt returns the machine's apt, with an archive of the test.
func apt(t *testing.T, archive *debiantest.Archive) Apt {
	t.Helper()
	for _, program := range []string{"apt-get", helper} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s", program)
		}
	}
	return Apt{
		Dir: t.TempDir(), Architecture: "amd64",
		Sources:     []string{"deb [trusted=yes] " + archive.URL + " ./"},
		Archives:    Archives{Main: archive.URL, Security: "http://security.invalid"},
		Environment: []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"},
	}
}

func TestAptChoosesTheNewestOfAllThatIsNeeded(t *testing.T) {
	archive := debiantest.NewArchive(t)
	base := archive.Add("base", "1:2.0-1", date, "Essential: yes", "Source: base-source (2.0)")
	base.Source, base.SourceVersion = "base-source", "2.0"
	apt0 := archive.Add("apt", "3.0", date)
	archive.Add("wanted", "1.0", date)
	wanted := archive.Add("wanted", "1.1", date, "Depends: library", "Recommends: left-out")
	library := archive.Add("library", "0.1~rc1", date)
	archive.Add("left-out", "1", date)

	a := apt(t, archive)
	if err := a.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := a.Resolve(t.Context(), []string{"wanted"})
	if err != nil {
		t.Fatal(err)
	}
	want := []lock.Package{base, apt0, wanted, library}
	byName := func(a, b lock.Package) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("chose\n%+v\nwant\n%+v", got, want)
	}
	if _, err := a.Resolve(t.Context(), []string{"nowhere"}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a package that is nowhere: %v", err)
	}
}

func TestPackagesAreFetchedOnce(t *testing.T) {
	archive := debiantest.NewArchive(t)
	p, q := archive.Add("one", "1", date), archive.Add("two", "2", date)
	a, store := apt(t, archive), Store{Dir: filepath.Join(t.TempDir(), "debs")}
	fetch := func() error {
		return a.Fetch(t.Context(), store, []lock.Package{p, q, p}, func(s string) { t.Errorf("said %q", s) })
	}
	if err := fetch(); err != nil {
		t.Fatal(err)
	}
	archive.Serve(p.Path, nil)
	archive.Serve(q.Path, nil)
	if err := fetch(); err != nil {
		t.Errorf("with all in the store: %v", err)
	}
	old := filepath.Join(store.Dir, partialPrefix+"killed")
	if err := os.Mkdir(old, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, date, date); err != nil {
		t.Fatal(err)
	}
	r := archive.Add("three", "3", date)
	if err := a.Fetch(t.Context(), store, []lock.Package{r}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(store.Dir, ".partial-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestADamagedPackageInTheStoreIsFoundAndFetchedAgain(t *testing.T) {
	archive := debiantest.NewArchive(t)
	p := archive.Add("one", "1", date)
	a, store := apt(t, archive), Store{Dir: t.TempDir()}
	if err := a.Fetch(t.Context(), store, []lock.Package{p}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	tamper := func() {
		t.Helper()
		content, err := os.ReadFile(store.Path(p))
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-1] ^= 1
		if err := os.WriteFile(store.Path(p), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tamper()
	var said []string
	if err := a.Fetch(t.Context(), store, []lock.Package{p}, func(s string) { said = append(said, s) }); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "one 1 (amd64)") {
		t.Errorf("said %q", said)
	}
	if missing, _, err := store.Missing(t.Context(), []lock.Package{p}); err != nil || len(missing) > 0 {
		t.Errorf("still missing: %v, %v", missing, err)
	}
	tamper()
	archive.Serve(p.Path, nil)
	if err := a.Fetch(t.Context(), store, []lock.Package{p}, func(string) {}); !errors.Is(err, ErrVanished) {
		t.Errorf("a damaged package that the archive no longer has: %v", err)
	}
}

func TestAPackageComesFromAnotherFileSystem(t *testing.T) {
	elsewhere, err := os.MkdirTemp("/dev/shm", "ovenbird-test")
	if err != nil {
		t.Skip("there is no second file system")
	}
	defer os.RemoveAll(elsewhere)
	sum := sha256.Sum256([]byte("a .deb"))
	p := lock.Package{Name: "tool", Version: "1", Architecture: "all", SHA256: hex.EncodeToString(sum[:])}
	file := filepath.Join(elsewhere, "tool.deb")
	if err := os.WriteFile(file, []byte("a .deb"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := Store{Dir: t.TempDir()}
	if err := store.Adopt(file, p); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(store.Path(p)); string(got) != "a .deb" {
		t.Errorf("the store has %q, %v", got, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still where it was: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(store.Dir, ".partial-*")); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestEveryPackageThatCannotBeFetchedIsNamed(t *testing.T) {
	archive := debiantest.NewArchive(t)
	there, gone, other := archive.Add("there", "1", date), archive.Add("gone", "2", date), archive.Add("other", "3", date)
	archive.Serve(gone.Path, nil)
	archive.Serve(other.Path, []byte("something else"))
	a, store := apt(t, archive), Store{Dir: t.TempDir()}
	err := a.Fetch(t.Context(), store, []lock.Package{there, gone, other}, func(string) {})
	if !errors.Is(err, ErrVanished) {
		t.Fatalf("the error is %v", err)
	}
	for _, want := range []string{"gone 2 (amd64) from " + archive.URL, "other 3 (amd64)", "is not the .deb of SHA-256 " + other.SHA256} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "there 1") {
		t.Errorf("a package that was fetched is named: %v", err)
	}
	if _, err := os.Stat(store.Path(there)); err != nil {
		t.Errorf("what could be fetched is not kept: %v", err)
	}
}

func TestARepositoryHoldsThePackagesAndTheirDate(t *testing.T) {
	archive := debiantest.NewArchive(t)
	p, q := archive.Add("one", "1", date), archive.Add("two", "2", date.Add(time.Hour))
	a, store := apt(t, archive), Store{Dir: t.TempDir()}
	if err := a.Fetch(t.Context(), store, []lock.Package{p, q}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "repository")
	newest, err := WriteRepository(dir, store, []lock.Package{p, q})
	if err != nil || !newest.Equal(date.Add(time.Hour)) {
		t.Errorf("the newest is of %s, %v", newest, err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "Packages"))
	if err != nil || strings.Count(string(list), "Package: ") != 2 || !strings.Contains(string(list), " of a test\nFilename: ./"+p.SHA256+".deb\n") {
		t.Errorf("the list is %s, %v", list, err)
	}
	p.Version = "1.1"
	if _, err := WriteRepository(t.TempDir(), store, []lock.Package{p}); err == nil || !strings.Contains(err.Error(), "is one 1 (amd64) of source one 1, not one 1.1") {
		t.Errorf("a .deb of another version: %v", err)
	}
}

func TestInstalledPackagesAreReadFromTheStatus(t *testing.T) {
	got, err := Installed(strings.NewReader(`Package: a
Status: install ok installed
Architecture: amd64
Source: src (1:3)
Version: 2+b1
Description: one
 Package: not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install ok unpacked
Architecture: all
Version: 4
`))
	want := []lock.Package{
		{Name: "a", Version: "2+b1", Architecture: "amd64", Source: "src", SourceVersion: "1:3"},
		{Name: "half", Version: "4", Architecture: "all", Source: "half", SourceVersion: "4"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestTheLogTellsWhatWasInstalledAndRemovedAgain(t *testing.T) {
	got, err := Logged(strings.NewReader(`2026-01-01 00:00:00 startup archives unpack
2026-01-01 00:00:00 install gcc:amd64 <none> 14
2026-01-01 00:00:00 status half-installed gcc:amd64 14
2026-01-01 00:00:01 upgrade curl:amd64 8.1 8.2
2026-01-01 00:00:02 upgrade curl:amd64 8.2 8.3
2026-01-01 00:00:03 remove gcc:amd64 14 <none>
`))
	if want := []Key{{"gcc", "14", "amd64"}, {"curl", "8.3", "amd64"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("read %v, %v", got, err)
	}
}

func TestADebIsReadHoweverItIsPacked(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("there is no dpkg-deb")
	}
	dir := t.TempDir()
	const control = "Package: one\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a package\n of a test\n"
	if err := os.MkdirAll(filepath.Join(dir, "one/DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "one/DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, packing := range []string{"gzip", "xz", "zstd", "none"} {
		file := filepath.Join(dir, packing+".deb")
		cmd := exec.Command("dpkg-deb", "--uniform-compression", "-Z"+packing, "--build", "one", file)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(out), "unknown compression type") {
				continue // zstd, on an old Debian
			}
			t.Fatalf("%v: %s", err, out)
		}
		got, err := ReadDeb(file)
		if err != nil || got.Control != control || got.Date.Unix() != 1700000000 {
			t.Errorf("%s: read %+v, %v", packing, got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("no archive at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDeb(filepath.Join(dir, "text")); err == nil {
		t.Error("a text was read as a .deb")
	}
}
