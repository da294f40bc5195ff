// Package erofs reads an EROFS file system, compressed or not, as an fs.FS and without
// mounting it: what is in a disk can be told on any machine and by anybody. It reads what
// mkfs.erofs makes of a directory with lz4, lz4hc or zstd; layouts for other purposes
// (chunks on other devices, fragments, deduplication) it refuses. The format is described
// by the kernel: https://docs.kernel.org/filesystems/erofs.html and fs/erofs/erofs_fs.h.
package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// ErrNoFileSystem says that the bytes are not EROFS.
var ErrNoFileSystem = errors.New("there is no EROFS file system")

const (
	superOffset = 1024
	superMagic  = 0xE0F5E1E2
	maxLinks    = 40 // that lead on from each other; the kernel's own limit
	maxText     = 4096
	maxDir      = 16 << 20
)

// Features that a reader must know.
const (
	featureZeroPadding = 0x1
	featureBigCluster  = 0x2 // also: the algorithms' settings follow the superblock
	supportedFeatures  = featureZeroPadding | featureBigCluster
)

// FS is a file system. It can be used by several goroutines if its reader can.
type FS struct {
	disk      io.ReaderAt
	blockBits uint
	meta      int64 // where inodes are counted from
	root      uint64
}

// Open reads the superblock.
func Open(disk io.ReaderAt) (*FS, error) {
	super := make([]byte, 128)
	if _, err := disk.ReadAt(super, superOffset); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if binary.LittleEndian.Uint32(super) != superMagic {
		return nil, ErrNoFileSystem
	}
	f := &FS{disk: disk, blockBits: uint(super[12]), root: uint64(binary.LittleEndian.Uint16(super[14:]))}
	if f.blockBits < 9 || f.blockBits > 16 || super[90] != 0 {
		return nil, fmt.Errorf("the superblock is damaged: blocks of 2^%d bytes", f.blockBits)
	}
	if features := binary.LittleEndian.Uint32(super[80:]); features&^supportedFeatures != 0 {
		return nil, fmt.Errorf("the file system has features that this reader does not know: %#x", features&^supportedFeatures)
	}
	f.meta = int64(binary.LittleEndian.Uint32(super[40:])) << f.blockBits
	return f, nil
}

func (f *FS) blockSize() int64 { return 1 << f.blockBits }

// How a file's data are laid out.
const (
	layoutPlain      = 0
	layoutInline     = 2 // the last part of the data follows the inode
	layoutCompressed = 3 // with an index of two or four bytes a cluster
)

// inode is a file, directory or link.
type inode struct {
	mode   fs.FileMode
	size   int64
	layout uint16
	block  uint32 // where data begin, if they are not compressed
	after  int64  // where on the disk the inode and its attributes end
}

func (f *FS) inode(number uint64) (inode, error) {
	if number > 1<<40 {
		return inode{}, errors.New("an inode's number is out of range")
	}
	at := f.meta + int64(number)*32 //nolint:gosec // bounded above
	raw := make([]byte, 64)
	if n, err := f.disk.ReadAt(raw, at); n < 32 {
		return inode{}, fmt.Errorf("read inode %d: %w", number, err)
	}
	format := binary.LittleEndian.Uint16(raw)
	i := inode{
		mode:   mode(binary.LittleEndian.Uint16(raw[4:])),
		size:   int64(binary.LittleEndian.Uint32(raw[8:])),
		layout: format >> 1 & 7,
		block:  binary.LittleEndian.Uint32(raw[16:]),
		after:  at + 32,
	}
	if format&1 != 0 { // the long form
		i.after = at + 64
		size := binary.LittleEndian.Uint64(raw[8:])
		if size > 1<<48 {
			return inode{}, fmt.Errorf("inode %d is damaged: its size is %d", number, size)
		}
		i.size = int64(size) //nolint:gosec // bounded above
	}
	if attributes := int64(binary.LittleEndian.Uint16(raw[2:])); attributes > 0 {
		i.after += 12 + (attributes-1)*4
	}
	return i, nil
}

// mode turns a Unix mode into Go's.
func mode(unix uint16) fs.FileMode {
	m := fs.FileMode(unix & 0o777)
	for bit, is := range map[uint16]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if unix&bit != 0 {
			m |= is
		}
	}
	switch unix & 0o170000 {
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o060000:
		m |= fs.ModeDevice
	case 0o020000:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o140000:
		m |= fs.ModeSocket
	}
	return m
}

// data returns a reader of a file's data.
func (f *FS) data(i inode) (io.ReaderAt, error) {
	switch i.layout {
	case layoutPlain, layoutInline:
		return flat{f, i}, nil
	case layoutCompressed:
		return f.compressed(i)
	}
	return nil, fmt.Errorf("a file has a layout that this reader does not know: %d", i.layout)
}

// flat are data that are not compressed.
type flat struct {
	fs    *FS
	inode inode
}

func (d flat) ReadAt(p []byte, at int64) (int, error) {
	if at >= d.inode.size {
		return 0, io.EOF
	}
	end := false
	if int64(len(p)) > d.inode.size-at {
		p, end = p[:d.inode.size-at], true
	}
	// Of inline data the last block, and that alone, follows the inode.
	inline := d.inode.size
	if d.inode.layout == layoutInline {
		inline = (d.inode.size - 1) >> d.fs.blockBits << d.fs.blockBits
	}
	n := 0
	if at < inline {
		part := p[:min(int64(len(p)), inline-at)]
		read, err := d.fs.disk.ReadAt(part, int64(d.inode.block)<<d.fs.blockBits+at)
		if n = read; read < len(part) {
			return n, err
		}
	}
	if n < len(p) {
		read, err := d.fs.disk.ReadAt(p[n:], d.inode.after+at+int64(n)-inline)
		if n += read; n < len(p) {
			return n, err
		}
	}
	if end {
		return n, io.EOF
	}
	return n, nil
}

// walk finds a path's inode, following links; the last one only if follow.
func (f *FS) walk(name string, follow bool) (inode, error) {
	rest := strings.Split(name, "/")
	if name == "." {
		rest = nil
	}
	at, here := ".", f.root
	links := 0
	for {
		i, err := f.inode(here)
		if err != nil || len(rest) == 0 {
			return i, err
		}
		if !i.mode.IsDir() {
			return inode{}, fs.ErrNotExist
		}
		next, err := f.lookup(i, rest[0])
		if err != nil {
			return inode{}, err
		}
		target, err := f.inode(next)
		if err != nil {
			return inode{}, err
		}
		if target.mode&fs.ModeSymlink == 0 || len(rest) == 1 && !follow {
			at, here, rest = path.Join(at, rest[0]), next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return inode{}, errors.New("too many symbolic links")
		}
		text, err := f.text(target)
		if err != nil {
			return inode{}, err
		}
		if !path.IsAbs(text) {
			text = path.Join("/", at, text)
		}
		rest = append(strings.FieldsFunc(path.Clean(text), func(r rune) bool { return r == '/' }), rest[1:]...)
		at, here = ".", f.root
	}
}

// text reads where a symbolic link leads.
func (f *FS) text(i inode) (string, error) {
	if i.size > maxText {
		return "", errors.New("a symbolic link is longer than any path")
	}
	data, err := f.data(i)
	if err != nil {
		return "", err
	}
	text := make([]byte, i.size)
	if n, err := data.ReadAt(text, 0); int64(n) < i.size {
		return "", fmt.Errorf("read a symbolic link: %w", err)
	}
	return string(text), nil
}

// info is a file's fs.FileInfo. Times are not read: an image's files all have one.
type info struct {
	name  string
	inode inode
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.inode.size }
func (i info) Mode() fs.FileMode          { return i.inode.mode }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) IsDir() bool                { return i.inode.mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Type() fs.FileMode          { return i.inode.mode.Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }
