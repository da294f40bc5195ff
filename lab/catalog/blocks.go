package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BlockSize is that of the EBS direct APIs, in bytes.
const BlockSize = 512 << 10

// Files of a snapshot. The disk is sparse and as large as the volume. The sums are the
// SHA-256 of each block at 32 times its index; zeros where none was written. A child has
// its parent's files as hard links until it is completed.
const (
	diskFile       = "disk.raw"
	sumsFile       = "sums"
	parentDiskFile = "parent.raw"
	parentSumsFile = "parent.sums"
)

// Sum is a block's SHA-256.
type Sum [sha256.Size]byte

// blocks is an open snapshot's data.
type blocks struct{ disk, sums *os.File }

// makeBlocks makes the files of an empty snapshot, or of one that is to inherit from the
// parent in its directory.
func makeBlocks(dir string, volumeGiB int64, parent string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as the rest of the state directory
		return err
	}
	size := volumeGiB << 30
	for file, size := range map[string]int64{diskFile: size, sumsFile: size / BlockSize * sha256.Size} {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return err
		}
	}
	if parent == "" {
		return nil
	}
	return errors.Join(
		os.Link(filepath.Join(parent, diskFile), filepath.Join(dir, parentDiskFile)),
		os.Link(filepath.Join(parent, sumsFile), filepath.Join(dir, parentSumsFile)),
	)
}

// shareBlocks makes a directory, to, that is a copy of a snapshot that nobody writes to any more.
func shareBlocks(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // as the rest of the state directory
		return err
	}
	return errors.Join(
		os.Link(filepath.Join(from, diskFile), filepath.Join(to, diskFile)),
		os.Link(filepath.Join(from, sumsFile), filepath.Join(to, sumsFile)),
	)
}

func openBlocks(dir string, flag int) (blocks, error) {
	return openFiles(dir, diskFile, sumsFile, flag)
}

func openFiles(dir, diskName, sumsName string, flag int) (blocks, error) {
	disk, err := os.OpenFile(filepath.Join(dir, diskName), flag, 0)
	if err != nil {
		return blocks{}, err
	}
	sums, err := os.OpenFile(filepath.Join(dir, sumsName), flag, 0)
	if err != nil {
		_ = disk.Close()
		return blocks{}, err
	}
	return blocks{disk, sums}, nil
}

func (b blocks) close() {
	_ = b.disk.Close()
	_ = b.sums.Close()
}

// sync waits until the data is on the machine's disk.
func (b blocks) sync() error { return errors.Join(b.disk.Sync(), b.sums.Sync()) }

// sum is a block's SHA-256; zero when it was not written.
func (b blocks) sum(index int) (Sum, error) {
	var sum Sum
	_, err := b.sums.ReadAt(sum[:], int64(index)*sha256.Size)
	if errors.Is(err, io.EOF) {
		err = nil // a parent may be smaller than its child
	}
	return sum, err
}

// put writes a block, its data first: a block that has a sum is there.
func (b blocks) put(index int, data []byte, sum Sum) error {
	if _, err := b.disk.WriteAt(data, int64(index)*BlockSize); err != nil {
		return err
	}
	_, err := b.sums.WriteAt(sum[:], int64(index)*sha256.Size)
	return err
}

// each calls with every block that was written, in order, until that fails. It reads what
// the sparse file holds and passes over its holes.
func (b blocks) each(from int, with func(index int, sum Sum) error) error {
	buffer := make([]byte, 64<<10)
	offset := int64(from) * sha256.Size
	for {
		data, err := unix.Seek(int(b.sums.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for blocks: %w", err)
		}
		offset = max(offset, data/sha256.Size*sha256.Size)
		n, err := b.sums.ReadAt(buffer, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the blocks' checksums: %w", err)
		}
		for i := 0; i+sha256.Size <= n; i += sha256.Size {
			if sum := Sum(buffer[i:]); sum != (Sum{}) {
				if err := with(int(offset/sha256.Size)+i/sha256.Size, sum); err != nil {
					return err
				}
			}
		}
		offset += int64(n)
	}
}

// aggregate counts the written blocks and makes the checksum over theirs, as
// CompleteSnapshot has it with the method LINEAR.
func (b blocks) aggregate() (count int, sum Sum, err error) {
	hash := sha256.New()
	err = b.each(0, func(_ int, s Sum) error {
		count++
		hash.Write(s[:])
		return nil
	})
	return count, Sum(hash.Sum(nil)), err
}

// verify tells whether every block's data is what its checksum says: after a crash of the
// machine it may not be.
func (b blocks) verify() error {
	buffer := make([]byte, BlockSize)
	return b.each(0, func(index int, sum Sum) error {
		if _, err := b.disk.ReadAt(buffer, int64(index)*BlockSize); err != nil {
			return err
		}
		if Sum(sha256.Sum256(buffer)) != sum {
			return fmt.Errorf("block %d was lost with the machine", index)
		}
		return nil
	})
}

// inherit copies from the parent's files in dir what the child did not write, and removes
// them. It may be cut short and begun again.
func (b blocks) inherit(ctx context.Context, dir string) error {
	parent, err := openFiles(dir, parentDiskFile, parentSumsFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.close()
	err = parent.each(0, func(index int, sum Sum) error {
		own, err := b.sum(index)
		if err != nil || own != (Sum{}) {
			return err
		}
		if err := copyRange(b.disk, parent.disk, int64(index)*BlockSize, BlockSize); err != nil {
			return err
		}
		if _, err := b.sums.WriteAt(sum[:], int64(index)*sha256.Size); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	// The disk first: without it there is nothing to inherit.
	return errors.Join(removeIfThere(filepath.Join(dir, parentDiskFile)), removeIfThere(filepath.Join(dir, parentSumsFile)))
}

// copyRange copies at the same offset; file systems that can share the data do.
func copyRange(to, from *os.File, offset int64, length int) error {
	for length > 0 {
		in, out := offset, offset
		n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, length, 0)
		if err != nil {
			return fmt.Errorf("copy a block of the parent: %w", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		offset, length = offset+int64(n), length-n
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
