package image

import (
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// bootFiles are patterns of the files that a node reads until it is Ready, which
// test/bootfiles has found out. One that matches nothing does no harm, and a file that is
// missing only lies with the others.
//
//go:embed boot-files.txt
var bootFiles string

// bootOrder is the directory in the root whose links say what lies first on the disk.
const bootOrder = "boot/order"

// orderFiles has mkfs.erofs put the files that a node boots from next to each other: it
// lays files out as it comes across them, and /boot comes first, so the files are linked
// there. A volume fetches 512 KiB of its snapshot for whatever is read of them, and would
// else fetch as much again that nobody reads.
func orderFiles(root string) error {
	dir := filepath.Join(root, bootOrder)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as on any system
		return fmt.Errorf("order the files of the root: %w", err)
	}
	n := 0
	for pattern := range strings.Lines(bootFiles) {
		files, err := filepath.Glob(filepath.Join(root, strings.TrimSpace(pattern)))
		if err != nil {
			return fmt.Errorf("order the files of the root by %q: %w", pattern, err)
		}
		for _, file := range files {
			info, err := os.Lstat(file)
			if err != nil {
				return fmt.Errorf("order the files of the root: %w", err)
			}
			if !info.Mode().IsRegular() || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				continue // a second way to what runs as root is one too many
			}
			n++
			if err := os.Link(file, filepath.Join(dir, fmt.Sprintf("%04d-%s", n, filepath.Base(file)))); err != nil {
				return fmt.Errorf("order the files of the root: %w", err)
			}
		}
	}
	return nil
}
