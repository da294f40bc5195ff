package backup

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
)

// stored is a place with one archive, of cluster blue, whose etcd held one key.
func stored(t *testing.T, key *Key) (Place, string) {
	t.Helper()
	etcd, dir := registrytest.Etcd(t), t.TempDir()
	if _, err := etcd.Put(t.Context(), "/registry/configmaps/default/kept", "a: b"); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(dir, snapshotFile)
	if err := download(t.Context(), etcd, snapshot); err != nil {
		t.Fatal(err)
	}
	if verified, err := VerifySnapshot(snapshot, filepath.Join(dir, "trial")); err != nil || verified.Keys != 1 {
		t.Fatalf("snapshot %+v, %v", verified, err)
	}
	document, err := encodeSaved(registry.Saved{Cluster: registry.Cluster{Name: "blue", Port: 6443}})
	if err != nil {
		t.Fatal(err)
	}
	now, files := time.Now(), whole(member{name: registryFile, content: document}, member{name: snapshotFile, path: snapshot})
	if _, err := pack(filepath.Join(dir, "archive"), key, Manifest{Cluster: "blue", TakenAt: now}, files); err != nil {
		t.Fatal(err)
	}
	place, name := directory{filepath.Join(dir, "place")}, archiveName("blue", now)
	if err := place.Put(t.Context(), name, filepath.Join(dir, "archive")); err != nil {
		t.Fatal(err)
	}
	return place, name
}

func TestARestoreTouchesNothingThatIsInTheWay(t *testing.T) {
	key := testKey(t)
	place, archive := stored(t, key)
	target := Target{StateDir: t.TempDir(), Registry: registrytest.New(t), Log: zap.NewNop()}
	dir := cluster.Dir(target.StateDir, "blue")
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A restore that was killed left half an archive, and before its record, a directory.
	write(filepath.Join(target.StateDir, "restore", "blue", "half"))
	write(filepath.Join(dir, "stray"))
	if _, err := Restore(t.Context(), target, place, archive, key); !errors.Is(err, ErrInTheWay) || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("a directory: %v", err)
	}
	target.Replace = true
	if _, err := Restore(t.Context(), target, place, archive, testKey(t)); err == nil {
		t.Error("another key opened the archive")
	}
	if _, err := os.Stat(filepath.Join(dir, "stray")); err != nil {
		t.Errorf("it was removed for an archive that cannot be read: %v", err)
	}

	restored, err := Restore(t.Context(), target, place, archive, key)
	if err != nil || restored.Port != 6443 {
		t.Fatalf("%+v, %v", restored, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != cluster.EtcdData || entries[1].Name() != "pki" {
		t.Errorf("files %v, %v, want etcd's data and the keys alone", entries, err)
	}
	if c, err := target.Registry.Get(t.Context(), "blue"); err != nil || c.Status.Phase != registry.PhaseCreating {
		t.Errorf("record %+v, %v", c, err)
	}
	target.Replace = false
	if _, err := Restore(t.Context(), target, place, archive, key); !errors.Is(err, ErrInTheWay) {
		t.Errorf("a cluster: %v", err)
	}
}

func TestARestoreTakesOverFromOneThatWasKilled(t *testing.T) {
	key := testKey(t)
	place, archive := stored(t, key)
	target := Target{StateDir: t.TempDir(), Registry: registrytest.New(t), Log: zap.NewNop()}
	killed := registry.Saved{
		Cluster:   registry.Cluster{Name: "blue", Port: 6443},
		Documents: map[string]json.RawMessage{"/ovenbird/updates/blue/1": []byte(`{"ID":"1","Cluster":"blue"}`)},
	}
	if _, err := target.Registry.Import(t.Context(), killed); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(cluster.Dir(target.StateDir, "blue"), "stray")
	if err := copyTo(stray, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	restored, err := Restore(t.Context(), target, place, archive, key)
	if err != nil || restored.Port != 6443 {
		t.Fatalf("%+v, %v", restored, err)
	}
	if c, err := target.Registry.Get(t.Context(), "blue"); err != nil || c.Status.Phase != registry.PhaseCreating {
		t.Errorf("record %+v, %v", c, err)
	}
	if updates, err := target.Registry.ListUpdates(t.Context(), "blue"); err != nil || len(updates) != 0 {
		t.Errorf("updates %v, %v, want those of the archive alone", updates, err)
	}
	if _, err := os.Stat(stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of the killed restore is left: %v", err)
	}
}

func TestFilesOfAClusterThatWasDeletedDuringItsRestoreDoNotStay(t *testing.T) {
	target := Target{StateDir: t.TempDir(), Registry: registrytest.New(t), Log: zap.NewNop()}
	saved := registry.Saved{Cluster: registry.Cluster{Name: "blue", Port: 6443, CreatedAt: time.Unix(1e9, 0)}}
	imported, err := target.Registry.Import(t.Context(), saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Registry.Delete(t.Context(), imported); err != nil {
		t.Fatal(err)
	}
	staged, err := openWork(filepath.Join(target.StateDir, "restore"), "blue")
	if err != nil {
		t.Fatal(err)
	}
	defer staged.close()
	if _, err := target.place(t.Context(), staged, imported); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(cluster.Dir(target.StateDir, "blue")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files are left: %v", err)
	}
}

func TestABackupOfAClusterThatWasDeletedMeanwhileIsNone(t *testing.T) {
	r := registrytest.New(t)
	c, err := r.Create(t.Context(), registry.Cluster{Name: "blue", CreatedAt: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSame(t.Context(), r, c); err != nil {
		t.Errorf("nothing happened: %v", err)
	}
	deleting, err := r.Change(t.Context(), "blue", func(c *registry.Cluster) error { c.Deleting = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSame(t.Context(), r, c); err == nil {
		t.Error("it is being deleted")
	}
	if err := r.Delete(t.Context(), deleting); err != nil {
		t.Fatal(err)
	}
	if err := checkSame(t.Context(), r, c); err == nil {
		t.Error("it is gone")
	}
	if _, err := r.Create(t.Context(), registry.Cluster{Name: "blue", CreatedAt: time.Unix(1e9+1, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := checkSame(t.Context(), r, c); err == nil {
		t.Error("it is another cluster")
	}
}

func TestABackupWithoutRoomSaysHowMuchItNeeds(t *testing.T) {
	if err := checkRoom(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
	if err := checkRoom(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "1099511627776 MiB") {
		t.Errorf("error %v", err)
	}
}

func TestADamagedSnapshotIsNoBackup(t *testing.T) {
	etcd, path := registrytest.Etcd(t), filepath.Join(t.TempDir(), snapshotFile)
	if err := download(t.Context(), etcd, path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"a flipped bit":  append(append([]byte{}, data[:len(data)-5000]...), append([]byte{data[len(data)-5000] ^ 1}, data[len(data)-4999:]...)...),
		"no checksum":    data[:len(data)-32],
		"half the pages": data[:len(data)/8192*4096],
		"nothing":        nil,
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if verified, err := VerifySnapshot(path, filepath.Join(t.TempDir(), "trial")); err == nil {
			t.Errorf("%s: %+v", name, verified)
		}
	}
}
