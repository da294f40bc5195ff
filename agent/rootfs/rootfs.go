// Package rootfs holds a node's files between deciding what they say and writing them.
// Packages that compute configuration return Files; Apply writes them under a root, each
// one whole: a temporary file, fsync, rename. Nothing here reads or edits what others wrote.
package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

func (r Root) apply(file File) error {
	path := r.Join(file.Path)
	if file.Data == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if upToDate(path, file) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Not renameio.WriteFile: it keeps the mode of a file that is there already.
	pending, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(file.mode()))
	if err != nil {
		return err
	}
	defer pending.Cleanup()
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
	if err != nil || info.Mode() != file.mode() || info.Size() != int64(len(file.Data)) {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && bytes.Equal(data, file.Data)
}

// Digest tells two sets of files apart, whatever their order.
func Digest(files []File) string {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	hash := sha256.New()
	for _, file := range sorted {
		fmt.Fprintf(hash, "%s %o %d %t\n", file.Path, file.mode(), len(file.Data), file.Data == nil)
		hash.Write(file.Data)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
