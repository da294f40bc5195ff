// Package rootfs holds a node's files between deciding what they say and writing them.
// Packages that compute configuration return Files; Apply writes them under a root, each
// one whole: a temporary file, fsync, rename. Nothing here reads or edits what others wrote.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// File is one file as it should be.
type File struct {
	Path string      // absolute, as seen on the node
	Mode fs.FileMode // permission bits; 0 means 0644
	Data []byte      // nil: the file must not exist
}

// Root is the directory that stands for the node's "/".
type Root string

// Join returns where the node's path lies on this machine.
func (r Root) Join(path string) string { return filepath.Join(string(r), path) }

// Apply makes every file what it should be, leaving those alone that are so already.
func (r Root) Apply(files ...File) error {
	for _, file := range files {
		if err := r.apply(file); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}

// UpToDate reports whether Apply would change nothing.
func (r Root) UpToDate(files ...File) bool {
	return !slices.ContainsFunc(files, func(file File) bool { return !upToDate(r.Join(file.Path), file) })
}

func (r Root) apply(file File) error {
	path := r.Join(file.Path)
	if upToDate(path, file) {
		return nil
	}
	if file.Data == nil {
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on any system; what is secret is 0600 itself
		return err
	}
	// Not renameio.WriteFile: it keeps the mode of a file that is there already.
	pending, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(file.mode()))
	if err != nil {
		return err
	}
	defer func() { _ = pending.Cleanup() }()
	if _, err := pending.Write(file.Data); err != nil {
		return err
	}
	return pending.CloseAtomicallyReplace()
}

func (f File) mode() fs.FileMode {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode
}

func upToDate(path string, file File) bool {
	info, err := os.Lstat(path)
	if file.Data == nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	if err != nil || info.Mode() != file.mode() || info.Size() != int64(len(file.Data)) {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && bytes.Equal(data, file.Data)
}
