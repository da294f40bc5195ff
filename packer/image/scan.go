package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	pageBlock     = 4 << 10   // what a sparse file is made of
	snapshotBlock = 512 << 10 // what an EBS snapshot is made of
)

// content is what can be said about a disk's bytes whatever file system it lies on.
type content struct {
	sha256   string
	written  int64 // bytes in blocks of 4 KiB that are not zeros
	snapshot int64 // bytes in blocks of 512 KiB that are not zeros
}

// scan reads a disk once. Holes are hashed as the zeros that they are, without reading.
func scan(ctx context.Context, disk string) (content, error) {
	f, err := os.Open(disk)
	if err != nil {
		return content{}, fmt.Errorf("read the disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return content{}, fmt.Errorf("read the disk: %w", err)
	}
	var c content
	hash, block, zeros := sha256.New(), make([]byte, snapshotBlock), make([]byte, snapshotBlock)
	data := int64(0) // where the next bytes are that are no hole
	for at := int64(0); at < info.Size(); at += snapshotBlock {
		if err := ctx.Err(); err != nil {
			return content{}, fmt.Errorf("read the disk: %w", context.Cause(ctx))
		}
		length := min(snapshotBlock, info.Size()-at)
		if data >= 0 && data < at {
			data = nextData(f, at, info.Size())
		}
		if data >= at+length {
			hash.Write(zeros[:length])
			continue
		}
		if _, err := f.ReadAt(block[:length], at); err != nil && !errors.Is(err, io.EOF) {
			return content{}, fmt.Errorf("read the disk: %w", err)
		}
		hash.Write(block[:length])
		if n := notZero(block[:length]); n > 0 {
			c.written += n
			c.snapshot += length
		}
	}
	c.sha256 = hex.EncodeToString(hash.Sum(nil))
	return c, nil
}

// nextData is the first offset from at on that is not in a hole; the end when there is
// none. A file system that knows no holes has data everywhere.
func nextData(f *os.File, at, end int64) int64 {
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return end
	}
	if err != nil {
		return at
	}
	return next
}

// notZero counts the bytes of a block's pages that are not all zeros.
func notZero(block []byte) int64 {
	var n int64
	for len(block) > 0 {
		page := block[:min(pageBlock, len(block))]
		block = block[len(page):]
		for _, b := range page {
			if b != 0 {
				n += int64(len(page))
				break
			}
		}
	}
	return n
}
