package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// writeStore writes a store of 200 images as containerd does, with what comes and goes
// meanwhile, in an order and at times of its own.
func writeStore(t *testing.T, root string, seed uint64) {
	t.Helper()
	name := filepath.Join(root, storeDB)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(name, 0o644, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	order := rand.New(rand.NewPCG(seed, 0)).Perm(200)
	for _, n := range order {
		err := db.Update(func(tx *bbolt.Tx) error {
			v1, err := tx.CreateBucketIfNotExists([]byte("v1"))
			if err != nil {
				return err
			}
			space, err := v1.CreateBucketIfNotExists([]byte("k8s.io"))
			if err != nil {
				return err
			}
			images, err := space.CreateBucketIfNotExists([]byte("images"))
			if err != nil {
				return err
			}
			image, err := images.CreateBucket(fmt.Appendf(nil, "image:%d", n))
			if err != nil {
				return err
			}
			target, err := image.CreateBucket([]byte("target"))
			if err != nil {
				return err
			}
			created, err := time.Unix(int64(seed)*1e6, 0).MarshalBinary()
			if err != nil {
				return err
			}
			lease, err := space.CreateBucketIfNotExists([]byte("leases"))
			if err != nil {
				return err
			}
			for i := range int(seed) * 40 {
				if err := lease.Put(fmt.Appendf(nil, "%d", i), make([]byte, 500)); err != nil {
					return err
				}
			}
			if err := space.DeleteBucket([]byte("leases")); err != nil {
				return err
			}
			if err := v1.SetSequence(7); err != nil {
				return err
			}
			if err := image.Put([]byte("createdat"), created); err != nil {
				return err
			}
			if err := target.Put([]byte("nothing"), nil); err != nil {
				return err
			}
			return target.Put([]byte("digest"), fmt.Appendf(nil, "sha256:%03d", n/2))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStoreIsTheSameBytesWhateverItHasLivedThrough(t *testing.T) {
	epoch := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	var contents [2][]byte
	var before, after []lock.Image
	for n := range contents {
		root := t.TempDir()
		writeStore(t, root, uint64(n+1))
		var err error
		if before, err = containerImages(root); err != nil {
			t.Fatal(err)
		}
		if err := settleContainerd(root, epoch); err != nil {
			t.Fatal(err)
		}
		if after, err = containerImages(root); err != nil {
			t.Fatal(err)
		}
		if contents[n], err = os.ReadFile(filepath.Join(root, storeDB)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("the bytes differ")
	}
	if len(after) != 100 || !reflect.DeepEqual(before, after) {
		t.Errorf("the images were %v and are %v", before, after)
	}
	date, _ := epoch.UTC().MarshalBinary()
	if dates, empty := bytes.Count(contents[0], date), bytes.Count(contents[0], []byte("nothing")); dates < 200 || empty < 200 {
		t.Errorf("of 200 images %d have the image's date and %d their empty value", dates, empty)
	}
}

func TestARootWithoutContainerdHasNoStoreToSettle(t *testing.T) {
	root := t.TempDir()
	images, err := containerImages(root)
	if err != nil || images != nil {
		t.Errorf("images are %v, %v", images, err)
	}
	if err := settleContainerd(root, time.Now()); err != nil {
		t.Error(err)
	}
	if made := below(t, root); len(made) > 0 {
		t.Errorf("made %v", made)
	}
}

func TestEverythingGetsTheImagesDate(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"a/b/file": "x"})
	if err := os.Symlink("nowhere", filepath.Join(root, "a/link")); err != nil {
		t.Fatal(err)
	}
	epoch := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := settleTimes(root, epoch); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a", "a/b", "a/b/file", "a/link"} {
		if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !info.ModTime().Equal(epoch) {
			t.Errorf("%q is of %v, %v", name, info.ModTime(), err)
		}
	}
}

func TestALayerTakesTheSameOnEveryFileSystem(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{snapshots + "/300/fs/dir/file": "a byte more than nothing", snapshots + "/300/fs/empty": ""})
	if err := os.Link(filepath.Join(root, snapshots, "300/fs/dir/file"), filepath.Join(root, snapshots, "300/fs/again")); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(root, snapshotterDB), 0o644, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		snapshot, err := tx.CreateBucket([]byte("sha256:0"))
		if err != nil {
			return err
		}
		for key, value := range map[string][]byte{"kind": {3}, "id": binary.AppendUvarint(nil, 300), "size": binary.AppendVarint(nil, 12345)} {
			if err := snapshot.Put([]byte(key), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close(), settleContainerd(root, time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	err = viewBolt(filepath.Join(root, snapshotterDB), func(tx *bbolt.Tx) error {
		// Two directories and one file with something in it, whatever the links to it.
		if size, _ := binary.Varint(tx.Bucket([]byte("sha256:0")).Get([]byte("size"))); size != 3*4096 {
			t.Errorf("the layer takes %d", size)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
