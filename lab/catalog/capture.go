package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Capture takes a snapshot of a volume's raw disk, which nobody may write to meanwhile; one that
// does not exist is blank. It has the order's description, volume, size, encryption, tags and
// token. An order with the token of an earlier one gets that one's snapshot again.
func (c *Catalog) Capture(order Snapshot, disk string) (Snapshot, error) {
	now := c.Now().UTC()
	if earlier, ok := c.captured(order); ok {
		return c.view(earlier, now), nil
	}
	s := order
	s.ID, s.Started, s.Ready, s.Status = newID("snap-0"), now, now.Add(c.Delays.Settle), Completed
	err := c.copyDisk(s, disk)
	if err == nil {
		// The data is safe by now, and what a process leaves that is killed before this is nobody's.
		err = c.change(func(r *record) error {
			r.Snapshots = append(r.Snapshots, s)
			return nil
		})
	}
	if err != nil {
		return s, errors.Join(fmt.Errorf("take a snapshot of %s: %w", s.VolumeID, err), os.RemoveAll(c.snapshot(s.ID)))
	}
	return c.view(s, now), nil
}

func (c *Catalog) captured(order Snapshot) (Snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return byToken(c.record.Snapshots, order)
}

func (c *Catalog) copyDisk(s Snapshot, disk string) error {
	if err := makeBlocks(c.snapshot(s.ID), s.VolumeGiB, ""); err != nil {
		return err
	}
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDWR)
	if err != nil {
		return err
	}
	defer b.close()
	return errors.Join(b.take(disk), b.sync())
}

// take copies what a sparse disk holds. Blocks of zeros are left out, as EBS leaves out those
// that were never written.
func (b blocks) take(path string) error {
	disk, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	block, zeros := make([]byte, BlockSize), make([]byte, BlockSize)
	for offset := int64(0); ; {
		data, err := unix.Seek(int(disk.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for data: %w", err)
		}
		index := data / BlockSize
		if _, err := disk.ReadAt(block, index*BlockSize); err != nil {
			return fmt.Errorf("read block %d: %w", index, err)
		}
		if !bytes.Equal(block, zeros) {
			if err := b.put(int(index), block, sha256.Sum256(block)); err != nil {
				return fmt.Errorf("write block %d: %w", index, err)
			}
		}
		offset = (index + 1) * BlockSize
	}
}
