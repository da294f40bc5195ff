package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Open opens a file or directory, as fs.FS says. Symbolic links are followed within the
// file system.
func (f *FS) Open(name string) (fs.File, error) {
	i, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	if i.mode.IsDir() {
		entries, err := f.entries(i)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &directory{info: info{path.Base(name), i}, fs: f, entries: entries}, nil
	}
	data, err := f.data(i)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &file{SectionReader: io.NewSectionReader(data, 0, i.size), info: info{path.Base(name), i}}, nil
}

// Lstat describes a file; of a symbolic link the link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	i, err := f.find("lstat", name, false)
	return info{path.Base(name), i}, err
}

// ReadLink reads where a symbolic link leads.
func (f *FS) ReadLink(name string) (string, error) {
	i, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	if i.mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return f.text(i)
}

func (f *FS) find(op, name string, follow bool) (inode, error) {
	if !fs.ValidPath(name) {
		return inode{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	i, err := f.walk(name, follow)
	if err != nil {
		return inode{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return i, nil
}

// file is an open file.
type file struct {
	*io.SectionReader
	info info
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// entry is a name in a directory.
type entry struct {
	name   string
	number uint64
}

// entries reads a directory without "." and "..", in the order of names.
func (f *FS) entries(dir inode) ([]entry, error) {
	if dir.size > maxDir {
		return nil, errors.New("a directory is larger than any that this reader takes")
	}
	data, err := f.data(dir)
	if err != nil {
		return nil, err
	}
	var list []entry
	block := make([]byte, f.blockSize())
	for at := int64(0); at < dir.size; at += f.blockSize() {
		part := block[:min(f.blockSize(), dir.size-at)]
		if n, err := data.ReadAt(part, at); n < len(part) {
			return nil, fmt.Errorf("read a directory: %w", err)
		}
		found, err := entriesOf(part)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// entriesOf reads a block of a directory: records of 12 bytes, and then their names.
func entriesOf(block []byte) ([]entry, error) {
	const size = 12
	damaged := errors.New("a directory is damaged")
	if len(block) < size {
		return nil, damaged
	}
	count := int(binary.LittleEndian.Uint16(block[8:])) / size
	if count == 0 || count*size > len(block) {
		return nil, damaged
	}
	var list []entry
	for n := range count {
		record := block[n*size:]
		from, to := int(binary.LittleEndian.Uint16(record[8:])), len(block)
		if n+1 < count {
			to = int(binary.LittleEndian.Uint16(record[size+8:]))
		}
		if from > to || to > len(block) {
			return nil, damaged
		}
		name, _, _ := strings.Cut(string(block[from:to]), "\x00")
		if name == "" || strings.Contains(name, "/") {
			return nil, damaged
		}
		if name != "." && name != ".." {
			list = append(list, entry{name, binary.LittleEndian.Uint64(record)})
		}
	}
	return list, nil
}

func (f *FS) lookup(dir inode, name string) (uint64, error) {
	entries, err := f.entries(dir)
	if err != nil {
		return 0, err
	}
	i, ok := slices.BinarySearchFunc(entries, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return 0, fs.ErrNotExist
	}
	return entries[i].number, nil
}

// directory is an open directory.
type directory struct {
	info    info
	fs      *FS
	entries []entry
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }

func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir reads the next n entries, as fs.ReadDirFile says.
func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.entries) {
		n = len(d.entries)
	}
	list := make([]fs.DirEntry, 0, n)
	for _, e := range d.entries[:n] {
		i, err := d.fs.inode(e.number)
		if err != nil {
			return list, err
		}
		list = append(list, info{e.name, i})
	}
	d.entries = d.entries[n:]
	return list, nil
}
