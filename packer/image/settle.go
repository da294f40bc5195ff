package image

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// settleTimes gives everything below dir the image's date. It comes right before a tool
// packs dir: any other work there, reading included, leaves its own.
func settleTimes(dir string, epoch time.Time) error {
	at := unix.NsecToTimespec(epoch.UnixNano())
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("date the root file system: %w", err)
	}
	return nil
}
