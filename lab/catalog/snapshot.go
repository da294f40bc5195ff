package catalog

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
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
	VolumeID    string            `json:"volume,omitempty"` // that it was taken of; empty: it was uploaded
	VolumeGiB   int64             `json:"volumeGiB"`
	Parent      string            `json:"parent,omitempty"`
	Encrypted   bool              `json:"encrypted,omitempty"`
	KMSKey      string            `json:"kmsKey,omitempty"` // ARN
	Tags        map[string]string `json:"tags,omitempty"`
	Permissions []Permission      `json:"permissions,omitempty"` // who may use it beside its owner
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

// lastWrite is when the snapshot got a block, or was started. The caller holds mu.
func (c *Catalog) lastWrite(s Snapshot) time.Time {
	last := s.Started
	if u, ok := c.open[s.ID]; ok {
		if at := time.Unix(0, u.last.Load()); at.After(last) {
			last = at
		}
		return last
	}
	// An earlier process may have taken it.
	if info, err := os.Stat(filepath.Join(c.snapshot(s.ID), sumsFile)); err == nil && info.ModTime().After(last) {
		last = info.ModTime()
	}
	return last
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

// ShareSnapshot changes who may use a snapshot.
func (c *Catalog) ShareSnapshot(region, id string, add, remove []Permission) error {
	return c.change(func(r *record) error {
		for n, s := range r.Snapshots {
			if s.ID == id && s.Region == region {
				r.Snapshots[n].Permissions = Permit(s.Permissions, add, remove)
				return nil
			}
		}
		return ErrNotFound
	})
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
