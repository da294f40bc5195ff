package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	swapName  = "swap"
	mostSwap  = 8 << 30  // more takes long to fill, and a node that uses it all is of no use
	leastSwap = 64 << 20 // less is not worth a file
)

// SwapSize returns how large a swap file is in bytes, of whole MiB: as much as the machine
// has memory, 8 GiB at most, and a quarter of what is free where it lies.
func SwapSize(memoryMiB int, free int64) int64 {
	size := min(int64(mostSwap), free/4)
	if memoryMiB > 0 {
		size = min(size, int64(memoryMiB)<<20)
	}
	return size &^ (1<<20 - 1)
}

// Swap makes the machine swap to a file in dir, and returns the file. That its name is
// there says that it is complete. The file stays over a reboot.
func Swap(ctx context.Context, root rootfs.Root, machine Machine, dir string, memoryMiB int) (string, error) {
	file := path.Join(dir, swapName)
	used, err := os.ReadFile(root.Join("/proc/swaps"))
	if err != nil {
		return "", fmt.Errorf("read what is swapped to: %w", err)
	}
	for line := range strings.Lines(string(used)) {
		if strings.HasPrefix(line, file+" ") {
			return file, nil
		}
	}
	if _, err := os.Stat(root.Join(file)); errors.Is(err, fs.ErrNotExist) {
		err = makeSwap(ctx, root, machine, file, memoryMiB)
		if err != nil {
			return "", fmt.Errorf("make the swap file %s: %w", file, err)
		}
	} else if err != nil {
		return "", err
	}
	_, err = machine.Run(ctx, "swapon", root.Join(file))
	return file, err
}

func makeSwap(ctx context.Context, root rootfs.Root, machine Machine, file string, memoryMiB int) (err error) {
	dir, partial := root.Join(path.Dir(file)), root.Join(file+".partial")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as on any system; the file itself is 0600
		return err
	}
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var space unix.Statfs_t
	if err := unix.Statfs(dir, &space); err != nil {
		return err
	}
	free := int64(space.Bavail) * space.Bsize //nolint:gosec // far below the limit
	size := SwapSize(memoryMiB, free)
	if size < leastSwap {
		return fmt.Errorf("only %d MiB are free: give the instance a larger volume", free>>20)
	}
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(partial)
		}
	}()
	// Space that is there but was never written has no holes to ext4, so nothing is zeroed.
	err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close()) //nolint:gosec // a file descriptor
	if err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "mkswap", partial); err != nil {
		return err
	}
	return os.Rename(partial, root.Join(file))
}
