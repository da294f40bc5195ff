package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Store keeps .debs by their SHA-256, as sha256/ab/abcd... in a directory. Whoever can
// write there cannot change what is baked: every file is hashed each time it is used.
type Store struct{ Dir string }

// Path is where a .deb lies, if it is there.
func (s Store) Path(p lock.Package) string {
	return filepath.Join(s.Dir, "sha256", p.SHA256[:2], p.SHA256)
}

// Missing hashes what the store has of packages, and lists those that it lacks. A file
// that is not what its name says is removed and reported as damaged.
func (s Store) Missing(ctx context.Context, packages []lock.Package) (missing []lock.Package, damaged []string, err error) {
	sums := make([]string, len(packages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for n, p := range packages {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			sums[n], err = hashFile(s.Path(p))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, fmt.Errorf("check the kept packages: %w", err)
	}
	for n, p := range packages {
		if sums[n] == p.SHA256 {
			continue
		}
		missing = append(missing, p)
		if sums[n] == "" {
			continue
		}
		damaged = append(damaged, fmt.Sprintf("%s of %s has SHA-256 %s", s.Path(p), KeyOf(p), sums[n]))
		if err := os.Remove(s.Path(p)); err != nil {
			return nil, nil, fmt.Errorf("check the kept packages: %w", err)
		}
	}
	return missing, damaged, nil
}

// Adopt moves a file into the store after comparing it with its package's hash.
func (s Store) Adopt(file string, p lock.Package) error {
	sum, err := hashFile(file)
	if err != nil {
		return fmt.Errorf("keep %s: %w", KeyOf(p), err)
	}
	if sum != p.SHA256 {
		return fmt.Errorf("keep %s: its SHA-256 is %s, want %s", KeyOf(p), sum, p.SHA256)
	}
	if err := os.MkdirAll(filepath.Dir(s.Path(p)), 0o755); err != nil { //nolint:gosec // packages are no secret
		return fmt.Errorf("keep %s: %w", KeyOf(p), err)
	}
	if err := os.Chmod(file, 0o644); err != nil { //nolint:gosec // apt reads it as its own user
		return fmt.Errorf("keep %s: %w", KeyOf(p), err)
	}
	err = os.Rename(file, s.Path(p))
	if errors.Is(err, unix.EXDEV) {
		err = s.moveIn(file, s.Path(p))
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", KeyOf(p), err)
	}
	return nil
}

// moveIn brings a file from another file system to its place, whole or not at all.
func (s Store) moveIn(file, place string) error {
	dir, err := os.MkdirTemp(s.Dir, partialPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	partial := filepath.Join(dir, filepath.Base(place))
	if err := linkOrCopy(file, partial); err != nil {
		return err
	}
	if err := os.Rename(partial, place); err != nil {
		return err
	}
	return os.Remove(file)
}

const (
	partialPrefix = ".partial-" // of a directory that packages are fetched into
	stale         = 24 * time.Hour
)

// removeStale removes what a killed fetch has left.
func (s Store) removeStale() {
	dirs, _ := filepath.Glob(filepath.Join(s.Dir, partialPrefix+"*")) // the pattern is well-formed
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.RemoveAll(dir) // the next fetch tries again
		}
	}
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
