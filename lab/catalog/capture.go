package catalog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// Restore makes the raw disk of a volume, as large as the completed snapshot that it is of.
func (c *Catalog) Restore(s Snapshot, disk string) error {
	if err := os.MkdirAll(filepath.Dir(disk), 0o700); err != nil {
		return fmt.Errorf("make the directory of the volumes: %w", err)
	}
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open snapshot %s: %w", s.ID, err)
	}
	defer b.close()
	file, err := os.OpenFile(disk, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make a disk of %s: %w", s.ID, err)
	}
	block := make([]byte, BlockSize)
	err = b.each(0, func(index int, _ Sum) error {
		if _, err := b.disk.ReadAt(block, int64(index)*BlockSize); err != nil {
			return err
		}
		_, err := file.WriteAt(block, int64(index)*BlockSize)
		return err
	})
	if err == nil {
		err = file.Truncate(s.VolumeGiB << 30)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("make a disk of %s: %w", s.ID, err), os.Remove(disk))
	}
	return nil
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
