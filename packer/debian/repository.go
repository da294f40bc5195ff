package debian

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// WriteRepository fills dir with a flat archive of exactly the given packages, which the
// store must have, and returns the date of the newest. A .deb that is of another package
// than its entry says is an error. apt may trust the archive, as each .deb has been
// compared with its hash.
func WriteRepository(dir string, store Store, packages []lock.Package) (time.Time, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // packages are no secret
		return time.Time{}, fmt.Errorf("write an archive of the packages: %w", err)
	}
	var newest time.Time
	var list strings.Builder
	for _, p := range packages {
		name := p.SHA256 + ".deb"
		if err := linkOrCopy(store.Path(p), filepath.Join(dir, name)); err != nil {
			return newest, fmt.Errorf("write an archive of the packages: %w", err)
		}
		deb, err := ReadDeb(filepath.Join(dir, name))
		if err != nil {
			return newest, fmt.Errorf("write an archive of the packages: %w", err)
		}
		is, err := deb.pkg()
		if err != nil {
			return newest, fmt.Errorf("write an archive of the packages: %s: %w", store.Path(p), err)
		}
		if KeyOf(is) != KeyOf(p) || is.Source != p.Source || is.SourceVersion != p.SourceVersion {
			return newest, fmt.Errorf("write an archive of the packages: the .deb of SHA-256 %s is %s of source %s %s, not %s of source %s %s",
				p.SHA256, KeyOf(is), is.Source, is.SourceVersion, KeyOf(p), p.Source, p.SourceVersion)
		}
		if deb.Date.After(newest) {
			newest = deb.Date
		}
		fmt.Fprintf(&list, "%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n", deb.Control, name, p.Size, p.SHA256)
	}
	if err := os.WriteFile(filepath.Join(dir, "Packages"), []byte(list.String()), 0o644); err != nil { //nolint:gosec // no secret
		return newest, fmt.Errorf("write an archive of the packages: %w", err)
	}
	return newest, nil
}

// linkOrCopy makes target the file source, which may lie in another file system.
func linkOrCopy(source, target string) error {
	err := os.Link(source, target)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // apt reads it as its own user
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
