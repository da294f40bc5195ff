package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// What containerd knows of the images that a node is baked with, below the root: two
// bolt files, of the store and of the snapshotter that unpacked the layers.
const (
	storeDB       = "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
	snapshotterDB = "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/metadata.db"
)

const boltTimeout = 10 * time.Second // for a lock that nobody should hold

// containerImages lists the container images of the root, from containerd's own store:
// the buckets v1, namespace, images, name, target.
func containerImages(root string) ([]lock.Image, error) {
	byDigest := map[string]*lock.Image{}
	err := viewBolt(filepath.Join(root, storeDB), func(tx *bbolt.Tx) error {
		v1 := tx.Bucket([]byte("v1"))
		if v1 == nil {
			return nil
		}
		return v1.ForEachBucket(func(namespace []byte) error {
			images := v1.Bucket(namespace).Bucket([]byte("images"))
			if images == nil {
				return nil
			}
			return images.ForEachBucket(func(name []byte) error {
				target := images.Bucket(name).Bucket([]byte("target"))
				if target == nil {
					return fmt.Errorf("image %s has no target", name)
				}
				digest := string(target.Get([]byte("digest")))
				if byDigest[digest] == nil {
					byDigest[digest] = &lock.Image{Digest: digest}
				}
				byDigest[digest].Names = append(byDigest[digest].Names, string(name))
				return nil
			})
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the container images: %w", err)
	}
	images := make([]lock.Image, 0, len(byDigest))
	for _, image := range byDigest {
		slices.Sort(image.Names)
		images = append(images, *image)
	}
	slices.SortFunc(images, func(a, b lock.Image) int { return strings.Compare(a.Digest, b.Digest) })
	return images, nil
}

func viewBolt(name string, view func(*bbolt.Tx) error) error {
	if _, err := os.Stat(name); err != nil {
		return err
	}
	db, err := bbolt.Open(name, 0o644, &bbolt.Options{ReadOnly: true, Timeout: boltTimeout}) //nolint:mnd // not made here
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	return errors.Join(db.View(view), db.Close())
}

// settleContainerd gives everything in containerd's bolt files the image's date, and
// writes them anew in the order of their keys: what they have lived through is not in
// their bytes.
func settleContainerd(root string, epoch time.Time) error {
	date, err := epoch.UTC().MarshalBinary() // as containerd writes them
	if err != nil {
		return fmt.Errorf("date containerd's store: %w", err)
	}
	for _, name := range []string{storeDB, snapshotterDB} {
		err := rewriteBolt(filepath.Join(root, name), boltCopy{date: date, layers: filepath.Join(root, snapshots)})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("date containerd's store: %w", err)
		}
	}
	return nil
}

func rewriteBolt(name string, c boltCopy) error {
	fresh := name + ".new"
	err := viewBolt(name, func(from *bbolt.Tx) error {
		db, err := bbolt.Open(fresh, 0o644, &bbolt.Options{Timeout: boltTimeout, NoSync: true}) //nolint:mnd // containerd's mode
		if err != nil {
			return err
		}
		c.to = db
		err = from.ForEach(func(key []byte, bucket *bbolt.Bucket) error { return c.bucket([][]byte{key}, bucket) })
		return errors.Join(err, db.Sync(), db.Close())
	})
	if err != nil {
		return err
	}
	return os.Rename(fresh, name)
}

// boltCopy copies buckets with date in place of every date, and what a layer takes as it
// would be anywhere. Each bucket is a transaction of its own: bolt gives pages to the
// buckets of a transaction in no particular order.
type boltCopy struct {
	to     *bbolt.DB
	date   []byte
	layers string // the directory of the snapshotter's layers, by their id
}

func (c boltCopy) bucket(path [][]byte, from *bbolt.Bucket) error {
	err := c.to.Update(func(tx *bbolt.Tx) error {
		to, err := tx.CreateBucketIfNotExists(path[0])
		for _, key := range path[1:] {
			if err != nil {
				return err
			}
			to, err = to.CreateBucketIfNotExists(key)
		}
		if err != nil {
			return err
		}
		if err := to.SetSequence(from.Sequence()); err != nil {
			return err
		}
		return from.ForEach(func(key, value []byte) (err error) {
			switch {
			case value == nil: // a bucket
				return nil
			case string(key) == "createdat" || string(key) == "updatedat":
				value = c.date
			case string(key) == "size" && from.Get([]byte("kind")) != nil: // a snapshot's
				if value, err = c.layerSize(from.Get([]byte("id"))); err != nil {
					return err
				}
			}
			return to.Put(key, value)
		})
	})
	if err != nil {
		return err
	}
	return from.ForEachBucket(func(key []byte) error {
		return c.bucket(append(slices.Clone(path), key), from.Bucket(key))
	})
}

// layerSize is what a layer takes, as the snapshotter writes it. It asks the file system,
// and file systems differ: here every file takes whole blocks, and a directory one.
func (c boltCopy) layerSize(id []byte) ([]byte, error) {
	const block = 4096
	number, n := binary.Uvarint(id)
	if n <= 0 {
		return nil, fmt.Errorf("a snapshot has the id %x", id)
	}
	var size int64
	linked := map[uint64]bool{}
	err := filepath.WalkDir(filepath.Join(c.layers, strconv.FormatUint(number, 10), "fs"), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 && !entry.IsDir() {
			if linked[stat.Ino] {
				return nil
			}
			linked[stat.Ino] = true
		}
		switch {
		case entry.IsDir():
			size += block
		case entry.Type().IsRegular():
			size += (info.Size() + block - 1) / block * block
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure a layer: %w", err)
	}
	return binary.AppendVarint(nil, size), nil
}
