package backup

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

func testKey(t *testing.T) *Key {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := MakeKey(path); err != nil {
		t.Fatal(err)
	}
	key, err := ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// whole is everything that an archive needs, with given in its place.
func whole(given ...member) []member {
	var files []member
	for _, name := range needed() {
		f := member{name: name, content: []byte("secret")}
		if i := slices.IndexFunc(given, func(g member) bool { return g.name == name }); i >= 0 {
			f = given[i]
		}
		files = append(files, f)
	}
	return files
}

// packed is an archive of a cluster named blue.
func packed(t *testing.T, key *Key) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	size, err := pack(path, key, Manifest{Cluster: "blue", TakenAt: time.Unix(1e9, 0)}, whole())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) != size {
		t.Fatalf("%d bytes, %v, want %d", len(data), err, size)
	}
	return data
}

func TestAnArchiveGivesBackWhatWasPacked(t *testing.T) {
	for name, key := range map[string]*Key{"encrypted": testKey(t), "as it is": nil} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			manifest, err := unpack(bytes.NewReader(packed(t, key)), key, dir)
			if err != nil || manifest.Cluster != "blue" || !manifest.TakenAt.Equal(time.Unix(1e9, 0)) {
				t.Fatalf("manifest %+v, %v", manifest, err)
			}
			data, err := os.ReadFile(filepath.Join(dir, "pki", "ca.key"))
			if err != nil || string(data) != "secret" {
				t.Errorf("ca.key holds %q, %v", data, err)
			}
			for path, want := range map[string]os.FileMode{"pki": os.ModeDir | 0o700, "pki/ca.key": 0o600, snapshotFile: 0o600} {
				if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
					t.Errorf("%s: %v, %v, want mode %v", path, info.Mode(), err, want)
				}
			}
		})
	}
}

func TestADamagedArchiveIsRefused(t *testing.T) {
	key := testKey(t)
	for name, test := range map[string]struct {
		key    *Key
		damage func([]byte) []byte
	}{
		"cut short":            {key, func(data []byte) []byte { return data[:len(data)-1] }},
		"cut short, open":      {nil, func(data []byte) []byte { return data[:len(data)-20] }},
		"empty":                {key, func([]byte) []byte { return nil }},
		"a flipped bit":        {key, func(data []byte) []byte { data[len(data)-30] ^= 1; return data }},
		"a flipped bit, open":  {nil, func(data []byte) []byte { data[len(data)/2] ^= 1; return data }},
		"another key's":        {testKey(t), func([]byte) []byte { return packed(t, key) }},
		"not encrypted at all": {key, func([]byte) []byte { return packed(t, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := unpack(bytes.NewReader(test.damage(packed(t, test.key))), test.key, t.TempDir()); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

// forged is an archive, sealed for key, of what somebody else wrote.
func forged(t *testing.T, key *Key, write func(*tar.Writer) error, options ...zstd.EOption) io.Reader {
	t.Helper()
	var data bytes.Buffer
	sealed, err := key.seal(&data)
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := zstd.NewWriter(sealed, options...)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(compressed)
	if err := write(archive); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(archive.Close(), compressed.Close(), sealed.Close()); err != nil {
		t.Fatal(err)
	}
	return &data
}

func members(files ...member) func(*tar.Writer) error {
	return func(archive *tar.Writer) error {
		for _, f := range files {
			if _, err := addMember(archive, f); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestAnArchiveThatOursWouldNotBeIsRefused(t *testing.T) {
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rand.N(256))
	}
	many := whole()
	for i := range maxMembers {
		many = append(many, member{name: keyPrefix + strconv.Itoa(i)})
	}
	tests := map[string]struct {
		archive io.Reader
		want    string
	}{
		"with a file too large": {forged(t, nil, members(member{name: keyPrefix + "ca.key", content: make([]byte, maxKey+1)})), "more than"},
		"with a file twice":     {forged(t, nil, members(append(whole(), whole()...)...)), "twice"},
		"with too many files":   {forged(t, nil, members(many...)), "more than 64 files"},
		"with a directory": {forged(t, nil, func(archive *tar.Writer) error {
			return archive.WriteHeader(&tar.Header{Name: keyPrefix + "ca.key", Typeflag: tar.TypeDir})
		}), "unexpected file"},
		"that takes much memory": {forged(t, nil, members(member{name: snapshotFile, content: noise}), zstd.WithWindowSize(2*maxWindow)), "window"},
	}
	for _, name := range []string{"../ca.key", "/etc/passwd", "pki/../../ca.key", "pki/a/b", "pki/..", "other"} {
		test := tests["with a directory"]
		test.archive = forged(t, nil, members(member{name: name, content: []byte("x")}))
		tests["with a file "+name] = test
	}
	for name, test := range tests {
		if _, err := unpack(test.archive, nil, t.TempDir()); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestAnArchiveOfWhoHasThePublicHalfAloneIsRefused(t *testing.T) {
	owner, stranger := testKey(t), testKey(t)
	for name, signer := range map[string]*Key{"not signed": nil, "signed with another key": stranger} {
		archive := forged(t, owner, func(archive *tar.Writer) error {
			manifest := Manifest{Format: format, Cluster: "blue", SHA256: map[string]string{}}
			for _, f := range whole() {
				var err error
				if manifest.SHA256[f.name], err = addMember(archive, f); err != nil {
					return err
				}
			}
			return addManifest(archive, signer, manifest)
		})
		if _, err := unpack(archive, owner, t.TempDir()); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "not signed with this key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKeyThatWasReplacedStillOpensItsArchivesBesideTheNewOne(t *testing.T) {
	dir := t.TempDir()
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(dir, strconv.Itoa(i))
		if _, err := MakeKey(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	former, err := ReadKey(files[0])
	if err != nil {
		t.Fatal(err)
	}
	archive := packed(t, former)
	// The newer identity is the first.
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := os.ReadFile(filepath.Join(dir, "both"))
		if err := os.WriteFile(filepath.Join(dir, "both"), append(data, rest...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	both, err := ReadKey(filepath.Join(dir, "both"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(bytes.NewReader(archive), both, ""); err != nil {
		t.Error(err)
	}
}

func TestAnArchiveIsOfTheTimeInItsName(t *testing.T) {
	place, dir, key := directory{t.TempDir()}, t.TempDir(), testKey(t)
	source := filepath.Join(dir, "archive")
	if err := os.WriteFile(source, packed(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, renamed := range map[string]bool{
		archiveName("blue", time.Unix(1e9, 999)): false,
		archiveName("blue", time.Unix(1e9+1, 0)): true,
		archiveName("green", time.Unix(1e9, 0)):  true,
	} {
		if err := place.Put(t.Context(), name, source); err != nil {
			t.Fatal(err)
		}
		if _, err := readArchive(t.Context(), place, name, key, ""); errors.Is(err, errDamaged) != renamed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnArchiveWithoutAKeyThatTheClusterNeedsIsNeitherWrittenNorRead(t *testing.T) {
	for i, name := range needed() {
		files := slices.Delete(whole(), i, i+1)
		if _, err := pack(filepath.Join(t.TempDir(), "archive"), nil, Manifest{Cluster: "blue"}, files); err == nil || !strings.Contains(err.Error(), name+" is missing") {
			t.Errorf("%s: %v", name, err)
		}
		sums := map[string]string{}
		for _, f := range files {
			sums[f.name] = "sum"
		}
		manifest, err := json.Marshal(Manifest{Format: format, Cluster: "blue", SHA256: sums})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (contents{sums: sums, manifest: manifest}).check(nil); err == nil || !strings.Contains(err.Error(), name+" is missing") {
			t.Errorf("read without %s: %v", name, err)
		}
	}
}

func TestABackupNeedsTheKeysThatAClusterHas(t *testing.T) {
	spec := component.Keys(component.Cluster{ServiceCIDR: netip.MustParsePrefix("172.20.0.0/16")}, nil)
	want := []string{registryFile, snapshotFile, keyPrefix + cluster.EncryptionKey}
	for _, name := range spec.SigningKeys {
		want = append(want, keyPrefix+name+".key")
	}
	for _, authority := range spec.Authorities {
		want = append(want, keyPrefix+authority.Name+".crt", keyPrefix+authority.Name+".key")
	}
	got := needed()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("needed are %v, want %v", got, want)
	}
}

func TestAKeyIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "ovenbird backup-key") {
		t.Errorf("no key: %v", err)
	}
	if _, err := MakeKey(path); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeKey(path); err == nil {
		t.Error("a key was written over")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}
