package ami

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
)

// store is the directory of journals and block maps:
//
//	ACCOUNT-REGION-CONTENT.journal    an unfinished build
//	maps/ACCOUNT-REGION-CONTENT.map   the disk of an unfinished build
//	snapshots/REGION/SNAPSHOT.HOW.map what is in a snapshot, and how it is encrypted
type store string

// keptMaps is how many snapshots of a region may be parents: a map of 2 GiB of data is
// 150 KB.
const keptMaps = 10

func (s store) journal(account, region, content string) string {
	return filepath.Join(string(s), account+"-"+region+"-"+content[:16]+".journal")
}

func (s store) journals() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(string(s), "*.journal"))
	slices.Sort(found)
	return found, err
}

// scratch is a new file beside the maps, to be renamed to mapOf.
func (s store) scratch() (*os.File, error) {
	dir := filepath.Join(string(s), "maps")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the block map: %w", err)
	}
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return nil, fmt.Errorf("keep the block map: %w", err)
	}
	return f, nil
}

func (s store) mapOf(account, region, content string) string {
	return filepath.Join(string(s), "maps", account+"-"+region+"-"+content+".map")
}

func (s store) snapshotMap(region, id, encryption string) string {
	return filepath.Join(string(s), "snapshots", region, id+"."+encryption+".map")
}

// remember keeps a disk's map as that of its snapshot, and forgets the oldest ones.
func (s store) remember(region, id, encryption string, from blocks.Map) error {
	to := s.snapshotMap(region, id, encryption)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("keep the block map of %s: %w", id, err)
	}
	if err := os.Rename(from.Path, to); err != nil {
		return fmt.Errorf("keep the block map of %s: %w", id, err)
	}
	entries, err := os.ReadDir(filepath.Dir(to))
	if err != nil {
		return fmt.Errorf("keep the block map of %s: %w", id, err)
	}
	age := func(e fs.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return int(min(1, max(-1, age(b)-age(a)))) })
	for _, old := range entries[min(keptMaps, len(entries)):] {
		_ = os.Remove(filepath.Join(filepath.Dir(to), old.Name()))
	}
	return nil
}

// forget removes a map that no snapshot came of.
func (s store) forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the block map: %w", err)
	}
	return nil
}

// candidates are the maps of snapshots by id.
func (s store) candidates(region, encryption string) map[string]blocks.Map {
	found, _ := filepath.Glob(s.snapshotMap(region, "snap-*", encryption))
	all := map[string]blocks.Map{}
	for _, path := range found {
		id, _, _ := strings.Cut(filepath.Base(path), ".")
		if m, err := blocks.OpenMap(path); err == nil {
			all[id] = m
		}
	}
	return all
}

// errNoParent says that a snapshot cannot be a parent.
var errNoParent = errors.New("cannot be the parent")

// parent chooses the snapshot to start from, as parent_snapshot says; id is "" when there
// is none that saves anything. EBS tells no hashes of what is in a snapshot, and reading
// one through the EBS direct APIs takes as long as writing it and is paid for by the
// block: so only snapshots that this machine has uploaded come into question.
func (s store) parent(ctx context.Context, r *region, c *Config, disk blocks.Map, volumeGiB int64) (id string, m blocks.Map, err error) {
	if c.ParentSnapshot == parentNone {
		return "", m, nil
	}
	candidates := s.candidates(r.name, c.encryption())
	if named := c.ParentSnapshot; named != parentAuto {
		m, ok := candidates[named]
		if !ok {
			return "", m, fmt.Errorf("parent_snapshot: %s %w: this machine has no block map of it with the same encryption in %s", named, errNoParent, s)
		}
		candidates = map[string]blocks.Map{named: m}
	}
	if len(candidates) == 0 {
		return "", m, nil
	}
	var ids []string
	for id := range candidates {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	found, err := r.snapshots(ctx, filter("snapshot-id", ids...))
	if err != nil {
		return "", m, err
	}
	best := disk.Blocks
	for _, snapshot := range found {
		if snapshot.State != ec2types.SnapshotStateCompleted || int64(aws.ToInt32(snapshot.VolumeSize)) > volumeGiB ||
			aws.ToBool(snapshot.Encrypted) != c.Encrypt {
			continue
		}
		candidate := candidates[aws.ToString(snapshot.SnapshotId)]
		differ, err := blocks.Differ(disk.All(), candidate.All())
		if err == nil && differ < best {
			id, m, best = aws.ToString(snapshot.SnapshotId), candidate, differ
		}
	}
	if c.ParentSnapshot != parentAuto && id == "" {
		return "", m, fmt.Errorf("parent_snapshot: %s %w: it is gone, larger than the disk, encrypted otherwise, or has nothing in common with it", c.ParentSnapshot, errNoParent)
	}
	return id, m, nil
}
