package catalog

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Status is where a snapshot is in its life:
//
//	pending -> sealed -> completed
//	   |         |
//	   +-> error <
//
// Blocks are taken while it is pending. Sealed is what AWS calls pending too: all blocks
// are there, and the snapshot is about to be completed.
type Status string

// States of a snapshot.
const (
	Pending   Status = "pending"
	Sealed    Status = "sealed"
	Completed Status = "completed"
	Failed    Status = "error"
)

// maxPending is how many snapshots may be pending in an account's region (service quota
// of the EBS direct APIs).
const maxPending = 100

// defaultTimeout ends a snapshot that nobody writes to or completes.
const defaultTimeout = time.Hour

// Snapshot is a snapshot of a volume. Values are copies; their tags are never changed.
type Snapshot struct {
	ID          string            `json:"id"`
	Region      string            `json:"region"`
	Description string            `json:"description,omitempty"`
	VolumeGiB   int64             `json:"volumeGiB"`
	Parent      string            `json:"parent,omitempty"`
	Encrypted   bool              `json:"encrypted,omitempty"`
	KMSKey      string            `json:"kmsKey,omitempty"` // ARN
	Tags        map[string]string `json:"tags,omitempty"`
	Token       string            `json:"token,omitempty"`
	Digest      string            `json:"digest,omitempty"` // of the request, to compare under the same token
	Timeout     time.Duration     `json:"timeout,omitempty"`
	Started     time.Time         `json:"started"`
	Status      Status            `json:"status"`
	Message     string            `json:"message,omitempty"` // why it failed
	Ready       time.Time         `json:"ready,omitzero"`    // when it is, or was, completed
	// Boot is what the machine's boot was called when data was written that may not have
	// reached its disk yet; empty once it has.
	Boot string `json:"boot,omitempty"`
}

// Start begins a snapshot that has the order's description, size, parent, encryption, tags
// and token. An order with the token of an earlier one gets that one's snapshot again.
func (c *Catalog) Start(order Snapshot) (Snapshot, error) {
	now := c.Now().UTC()
	s := order
	err := c.change(func(r *record) error {
		if earlier, ok := byToken(r.Snapshots, order); ok {
			if earlier.Digest != order.Digest {
				return ErrTokenReused
			}
			s = c.view(earlier, now)
			return nil
		}
		pending := 0
		for _, other := range r.Snapshots {
			if other.Region == order.Region && c.view(other, now).Status == Pending {
				pending++
			}
		}
		if pending >= maxPending {
			return ErrQuota
		}
		var err error
		if s, err = c.begin(order, now); err != nil {
			return err
		}
		r.Snapshots = append(r.Snapshots, s)
		return nil
	})
	return s, err
}

func byToken(snapshots []Snapshot, order Snapshot) (Snapshot, bool) {
	i := slices.IndexFunc(snapshots, func(s Snapshot) bool {
		return order.Token != "" && s.Token == order.Token && s.Region == order.Region
	})
	if i < 0 {
		return Snapshot{}, false
	}
	return snapshots[i], true
}

// begin makes the files of a new snapshot. The caller holds mu.
func (c *Catalog) begin(order Snapshot, now time.Time) (Snapshot, error) {
	s, parent := order, ""
	if s.Parent != "" {
		of, ok := c.find(s.Region, s.Parent, now)
		switch {
		case !ok:
			return s, fmt.Errorf("parent snapshot %s: %w", s.Parent, ErrNotFound)
		case of.Status != Completed:
			return s, fmt.Errorf("parent snapshot %s: %w", s.Parent, ErrNotReady)
		case s.VolumeGiB < of.VolumeGiB:
			return s, ErrVolumeSize
		}
		parent, s.Encrypted, s.KMSKey = c.snapshot(s.Parent), of.Encrypted, of.KMSKey
	}
	s.ID, s.Started, s.Status, s.Boot = newID("snap-0"), now, Pending, c.boot
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	if err := makeBlocks(c.snapshot(s.ID), s.VolumeGiB, parent); err != nil {
		return s, fmt.Errorf("make the files of snapshot %s: %w", s.ID, err)
	}
	return s, nil
}

// Put writes a block of a pending snapshot. The caller has made sure that sum is the
// data's.
func (c *Catalog) Put(region, id string, index int, data []byte, sum Sum) error {
	s, u, err := c.pending(region, id)
	if err != nil {
		return err
	}
	if index < 0 || int64(index) >= s.VolumeGiB<<30/BlockSize {
		return ErrBlockIndex
	}
	if err := u.write(index, data, sum); err != nil {
		if errors.Is(err, ErrNotPending) {
			return err
		}
		return fmt.Errorf("write block %d of snapshot %s: %w", index, id, err)
	}
	return nil
}

// pending finds a snapshot that takes blocks, with its files open.
func (c *Catalog) pending(region, id string) (Snapshot, *upload, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.find(region, id, c.Now())
	if !ok {
		return s, nil, ErrNotFound
	}
	if s.Status != Pending {
		return s, nil, ErrNotPending
	}
	u, err := c.upload(id)
	return s, u, err
}

// upload opens a pending snapshot's files, unless they are. The caller holds mu.
func (c *Catalog) upload(id string) (*upload, error) {
	if u, ok := c.open[id]; ok {
		return u, nil
	}
	b, err := openBlocks(c.snapshot(id), os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	u := &upload{blocks: b}
	c.open[id] = u
	return u, nil
}

// CountError is what Complete answers when another number of blocks was written.
type CountError struct{ Written, Claimed int }

func (e *CountError) Error() string {
	return fmt.Sprintf("%d blocks were written, not %d", e.Written, e.Claimed)
}

// ErrChecksum is what Complete answers when the blocks' checksums make another one.
var ErrChecksum = errors.New("the aggregated checksum is another")

// Complete seals a snapshot to which count blocks were written, with the checksum over
// theirs unless that is nil. It is completed in the background.
func (c *Catalog) Complete(region, id string, count int, checksum *Sum) (Snapshot, error) {
	s, u, err := c.pending(region, id)
	if err != nil {
		return s, err
	}
	u.sealed.Lock()
	defer u.sealed.Unlock()
	if u.done {
		return s, ErrNotPending
	}
	written, sum, err := u.aggregate()
	switch {
	case err != nil:
		return s, fmt.Errorf("count the blocks of snapshot %s: %w", id, err)
	case written != count:
		return s, &CountError{Written: written, Claimed: count}
	case checksum != nil && *checksum != sum:
		return s, ErrChecksum
	}
	err = c.alter(id, func(s *Snapshot) { s.Status, s.Ready = Sealed, c.Now().UTC().Add(c.Delays.Settle) })
	if err != nil {
		return s, err
	}
	u.done = true
	c.mu.Lock()
	delete(c.open, id)
	c.mu.Unlock()
	c.work.Go(func() { c.finish(id, u.blocks) })
	s.Status = Sealed
	return s, nil
}

// finish makes a sealed snapshot complete: it fetches what the parent has, tells, and sees
// to it that the data outlives a crash of the machine.
func (c *Catalog) finish(id string, b blocks) {
	defer b.close()
	err := b.inherit(c.ctx, c.snapshot(id))
	if c.ctx.Err() != nil {
		return // the next process carries on
	}
	if err != nil {
		c.Logger.Error("snapshot failed", zap.String("snapshot", id), zap.Error(err))
		err = c.alter(id, func(s *Snapshot) { s.Status, s.Message = Failed, err.Error() })
	} else {
		err = c.alter(id, func(s *Snapshot) { s.Status = Completed })
		if err == nil {
			err = b.sync()
		}
		if err == nil {
			err = c.alter(id, func(s *Snapshot) { s.Boot = "" })
		}
	}
	if err != nil && !errors.Is(err, ErrNotFound) { // not found: it was deleted meanwhile
		c.Logger.Error("snapshot is not safe on disk", zap.String("snapshot", id), zap.Error(err))
	}
}

// alter changes one snapshot's record.
func (c *Catalog) alter(id string, how func(*Snapshot)) error {
	return c.change(func(r *record) error {
		i := slices.IndexFunc(r.Snapshots, func(s Snapshot) bool { return s.ID == id })
		if i < 0 {
			return ErrNotFound
		}
		how(&r.Snapshots[i])
		return nil
	})
}

// recover finishes sealed snapshots, drops files that are nobody's, and fails snapshots
// whose data a crash of the machine took.
func (c *Catalog) recover() error {
	known := map[string]bool{}
	for i := range c.record.Snapshots {
		s := &c.record.Snapshots[i]
		known[s.ID] = true
		if s.Boot == "" || s.Status == Failed {
			continue
		}
		b, err := openBlocks(c.snapshot(s.ID), os.O_RDWR)
		if err == nil && s.Boot != c.boot {
			err = b.verify()
		}
		switch {
		case err != nil:
			c.Logger.Error("snapshot is lost", zap.String("snapshot", s.ID), zap.Error(err))
			s.Status, s.Message = Failed, err.Error()
			if b.disk != nil {
				b.close()
			}
		case s.Status == Pending:
			s.Boot = c.boot
			c.open[s.ID] = &upload{blocks: b}
		default:
			s.Boot = c.boot
			c.work.Go(func() { c.finish(s.ID, b) })
		}
	}
	entries, err := os.ReadDir(c.snapshots())
	if err != nil {
		return fmt.Errorf("look for snapshots: %w", err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			if err := os.RemoveAll(filepath.Join(c.snapshots(), e.Name())); err != nil {
				return fmt.Errorf("remove what is left of a snapshot: %w", err)
			}
		}
	}
	return nil
}

// view is the snapshot as it is to be seen now.
func (c *Catalog) view(s Snapshot, now time.Time) Snapshot {
	switch {
	case s.Status == Completed && now.Before(s.Ready):
		s.Status = Sealed
	case s.Status == Pending && now.Sub(c.lastWrite(s)) > s.Timeout:
		s.Status, s.Message = Failed, "The snapshot was not completed in time."
	}
	return s
}

// lastWrite is when the snapshot got a block, or was started.
func (c *Catalog) lastWrite(s Snapshot) time.Time {
	if info, err := os.Stat(filepath.Join(c.snapshot(s.ID), sumsFile)); err == nil && info.ModTime().After(s.Started) {
		return info.ModTime()
	}
	return s.Started
}

// find finds a snapshot that may be seen by now. The caller holds mu.
func (c *Catalog) find(region, id string, now time.Time) (Snapshot, bool) {
	for _, s := range c.record.Snapshots {
		if s.ID == id && s.Region == region && !now.Before(s.Started.Add(c.Delays.Appear)) {
			return c.view(s, now), true
		}
	}
	return Snapshot{}, false
}

// Snapshot finds a snapshot.
func (c *Catalog) Snapshot(region, id string) (Snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(region, id, c.Now())
}

// Snapshots lists a region's snapshots, the oldest first.
func (c *Catalog) Snapshots(region string) []Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	var list []Snapshot
	for _, s := range c.record.Snapshots {
		if s, ok := c.find(region, s.ID, now); ok {
			list = append(list, s)
		}
	}
	return list
}

// InUseError names the image that a snapshot cannot be deleted for.
type InUseError struct{ Image string }

func (e *InUseError) Error() string { return "the snapshot is in use by " + e.Image }

// DeleteSnapshot removes a snapshot that no image uses, whatever its state.
func (c *Catalog) DeleteSnapshot(region, id string) error {
	err := c.change(func(r *record) error {
		if _, ok := c.find(region, id, c.Now()); !ok {
			return ErrNotFound
		}
		for _, i := range r.Images {
			if i.uses(id) {
				return &InUseError{Image: i.ID}
			}
		}
		r.Snapshots = slices.DeleteFunc(r.Snapshots, func(s Snapshot) bool { return s.ID == id })
		return nil
	})
	if err != nil {
		return err
	}
	return c.dropBlocks(id)
}

func (c *Catalog) dropBlocks(id string) error {
	c.mu.Lock()
	u, ok := c.open[id]
	delete(c.open, id)
	c.mu.Unlock()
	if ok {
		u.sealed.Lock()
		u.done = true
		u.close()
		u.sealed.Unlock()
	}
	if err := os.RemoveAll(c.snapshot(id)); err != nil {
		return fmt.Errorf("remove the data of snapshot %s: %w", id, err)
	}
	return nil
}

// CopySnapshot begins a copy of a completed snapshot in order's region, with order's
// description, encryption and tags.
func (c *Catalog) CopySnapshot(fromRegion, id string, order Snapshot) (Snapshot, error) {
	now := c.Now().UTC()
	s := order
	err := c.change(func(r *record) error {
		of, ok := c.find(fromRegion, id, now)
		switch {
		case !ok:
			return ErrNotFound
		case of.Status != Completed:
			return ErrNotReady
		}
		var err error
		s, err = c.copy(of, order, now)
		if err == nil {
			r.Snapshots = append(r.Snapshots, s)
		}
		return err
	})
	return s, err
}

// copy makes the files of a copy. The caller holds mu.
func (c *Catalog) copy(of, order Snapshot, now time.Time) (Snapshot, error) {
	s := order
	s.ID, s.VolumeGiB, s.Started, s.Ready, s.Status, s.Boot = newID("snap-0"), of.VolumeGiB, now, now.Add(c.Delays.Settle), Completed, of.Boot
	s.Encrypted = s.Encrypted || of.Encrypted
	s.Tags = maps.Clone(order.Tags)
	if err := shareBlocks(c.snapshot(of.ID), c.snapshot(s.ID)); err != nil {
		return s, fmt.Errorf("copy snapshot %s: %w", of.ID, err)
	}
	return s, nil
}

// Block is one that a snapshot holds.
type Block struct {
	Index int
	Sum   Sum
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// Blocks lists at most limit of the blocks of a completed snapshot, the first at or after
// index from.
func (c *Catalog) Blocks(s Snapshot, from, limit int) ([]Block, error) {
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", s.ID, err)
	}
	defer b.close()
	var list []Block
	err = b.each(from, func(index int, sum Sum) error {
		if len(list) == limit {
			return errEnough
		}
		list = append(list, Block{index, sum})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// Read reads a block of a completed snapshot; not ok when there is none at the index.
func (c *Catalog) Read(s Snapshot, index int) (data []byte, sum Sum, ok bool, err error) {
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDONLY)
	if err != nil {
		return nil, sum, false, fmt.Errorf("open snapshot %s: %w", s.ID, err)
	}
	defer b.close()
	if sum, err = b.sum(index); err != nil || sum == (Sum{}) {
		return nil, sum, false, err
	}
	data = make([]byte, BlockSize)
	if _, err := b.disk.ReadAt(data, int64(index)*BlockSize); err != nil {
		return nil, sum, false, fmt.Errorf("read block %d of snapshot %s: %w", index, s.ID, err)
	}
	return data, sum, true, nil
}
