package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
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

// packed is an archive of a cluster named blue.
func packed(t *testing.T, key *Key) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	size, err := pack(path, key, Manifest{Cluster: "blue", TakenAt: time.Unix(1e9, 0)}, []member{
		{name: registryFile, content: []byte("{}")},
		{name: snapshotFile, content: bytes.Repeat([]byte("data"), 100_000)},
		{name: keyPrefix + "ca.key", content: []byte("secret")},
	})
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

func TestAnArchiveWithForeignFilesIsRefused(t *testing.T) {
	for _, name := range []string{"../ca.key", "/etc/passwd", "pki/../../ca.key", "pki/a/b", "pki/..", "other"} {
		var data bytes.Buffer
		compressed, err := zstd.NewWriter(&data)
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewWriter(compressed)
		if _, err := addMember(archive, member{name: name, content: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(&data, nil, t.TempDir()); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "unexpected file") {
			t.Errorf("%s: %v", name, err)
		}
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
