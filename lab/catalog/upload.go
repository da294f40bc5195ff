package catalog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// upload is a snapshot that takes blocks.
type upload struct {
	blocks
	// sealed keeps blocks out while the snapshot is being completed: writers of blocks
	// hold it for reading.
	sealed sync.RWMutex
	// stripes keep two writers of the same block apart.
	stripes [64]sync.Mutex
	last    atomic.Int64 // when a block was written, in nanoseconds since 1970
	done    bool
}

func (u *upload) write(index int, data []byte, sum Sum) error {
	u.sealed.RLock()
	defer u.sealed.RUnlock()
	if u.done {
		return ErrNotPending
	}
	stripe := &u.stripes[index%len(u.stripes)]
	stripe.Lock()
	defer stripe.Unlock()
	return u.put(index, data, sum)
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
	u.last.Store(c.Now().UnixNano())
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
	return c.hold(id, b), nil
}

// hold keeps a pending snapshot's files open. The caller holds mu.
func (c *Catalog) hold(id string, b blocks) *upload {
	u := &upload{blocks: b}
	if info, err := b.sums.Stat(); err == nil {
		u.last.Store(info.ModTime().UnixNano())
	}
	c.open[id] = u
	return u
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
// whose data a crash of the machine took. Snapshots that it finishes wait for the others.
func (c *Catalog) recover() error {
	c.mu.Lock()
	defer c.mu.Unlock()
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
			c.hold(s.ID, b)
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
