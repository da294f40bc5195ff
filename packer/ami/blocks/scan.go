package blocks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Scan hashes disk and writes its block map to w. It returns the content hash, in hex, and
// the count of blocks that are not all zeros. seen, if not nil, is told the offset that
// has been reached, from one goroutine.
func Scan(ctx context.Context, disk *os.File, w io.Writer, seen func(offset int64)) (content string, count int, err error) {
	info, err := disk.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("hash the disk: %w", err)
	}
	size := info.Size()
	out := newMapWriter(w, size)

	// Hashing is spread over the processors; queue keeps the order.
	type job struct {
		index  int32
		sum    Sum
		hashed chan struct{}
	}
	workers := runtime.GOMAXPROCS(0)
	queue := make(chan *job, 4*workers)
	work := make(chan *job)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		defer close(queue)
		for index, err := range data(disk, size) {
			if err != nil {
				return err
			}
			next := &job{index: index, hashed: make(chan struct{})}
			for _, to := range []chan *job{queue, work} {
				select {
				case to <- next:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			buf := make([]byte, Size)
			for next := range work {
				if err := Read(disk, next.index, buf); err != nil {
					return err
				}
				next.sum = ZeroSum
				if !zero(buf) {
					next.sum = sha256.Sum256(buf)
				}
				close(next.hashed)
			}
			return nil
		})
	}
	group.Go(func() error {
		for next := range queue {
			select {
			case <-next.hashed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if next.sum != ZeroSum {
				out.add(Block{next.index, next.sum})
			}
			if seen != nil {
				seen(min(size, (int64(next.index)+1)*Size))
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return "", 0, fmt.Errorf("hash the disk: %w", err)
	}
	content, err = out.finish()
	return content, out.blocks, err
}

// Read fills buf, of Size bytes, with a block; what lies past the disk's end is zeros.
func Read(disk io.ReaderAt, index int32, buf []byte) error {
	n, err := disk.ReadAt(buf, int64(index)*Size)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read block %d of the disk: %w", index, err)
	}
	clear(buf[n:])
	return nil
}

// data yields the blocks that are not wholly in a hole of the file.
func data(disk *os.File, size int64) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		next := int64(0) // the first block that was not yielded
		for next*Size < size {
			start, err := unix.Seek(int(disk.Fd()), next*Size, unix.SEEK_DATA)
			end := size
			switch {
			case errors.Is(err, unix.ENXIO): // a hole to the end
				return
			case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP): // a file system that knows no holes
				start = next * Size
			case err != nil:
				yield(0, fmt.Errorf("find the disk's next data: %w", err))
				return
			default:
				if end, err = unix.Seek(int(disk.Fd()), start, unix.SEEK_HOLE); err != nil {
					yield(0, fmt.Errorf("find the disk's next hole: %w", err))
					return
				}
			}
			for next = max(next, start/Size); next*Size < end; next++ {
				if !yield(int32(next), nil) {
					return
				}
			}
		}
	}
}

var zeros [4 << 10]byte

// zero tells whether buf, of whole pages, is all zeros.
func zero(buf []byte) bool {
	for len(buf) > 0 {
		if !bytes.Equal(buf[:len(zeros)], zeros[:]) {
			return false
		}
		buf = buf[len(zeros):]
	}
	return true
}
