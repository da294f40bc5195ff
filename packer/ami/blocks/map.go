package blocks

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
)

// A block map is a file: these eight bytes, the disk's size as a big-endian uint64, and
// for each block that is not all zeros, ascending, its index as a big-endian uint32 and
// its SHA-256. The SHA-256 of the whole file is the disk's content hash: it is the same
// for two disks of the same bytes, whatever holes their files have.
const mapMagic = "OVBMAP1\n"

const (
	mapHeader = len(mapMagic) + 8
	mapEntry  = 4 + sha256.Size
)

// Map is a block map in a file.
type Map struct {
	Path     string
	DiskSize int64 // bytes
	Blocks   int   // that are not all zeros
}

// OpenMap reads a map's header and checks its length.
func OpenMap(path string) (Map, error) {
	f, err := os.Open(path)
	if err != nil {
		return Map{}, fmt.Errorf("read block map: %w", err)
	}
	defer f.Close()
	header := make([]byte, mapHeader)
	if _, err := io.ReadFull(f, header); err != nil || string(header[:len(mapMagic)]) != mapMagic {
		return Map{}, fmt.Errorf("read block map: %s is not one", path)
	}
	info, err := f.Stat()
	if err != nil {
		return Map{}, fmt.Errorf("read block map: %w", err)
	}
	entries := info.Size() - int64(mapHeader)
	size := binary.BigEndian.Uint64(header[len(mapMagic):])
	if entries%int64(mapEntry) != 0 || size > MaxDiskSize {
		return Map{}, fmt.Errorf("read block map: %s is damaged", path)
	}
	return Map{Path: path, DiskSize: int64(size), Blocks: int(entries / int64(mapEntry))}, nil
}

// All yields the blocks, ascending. It reads the file as it goes.
func (m Map) All() iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		f, err := os.Open(m.Path)
		if err != nil {
			yield(Block{}, fmt.Errorf("read block map: %w", err))
			return
		}
		defer f.Close()
		r := bufio.NewReaderSize(io.NewSectionReader(f, int64(mapHeader), int64(m.Blocks*mapEntry)), 64<<10)
		entry := make([]byte, mapEntry)
		last := int64(-1)
		for {
			if _, err := io.ReadFull(r, entry); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				yield(Block{}, fmt.Errorf("read block map %s: %w", m.Path, err))
				return
			}
			index := int64(binary.BigEndian.Uint32(entry))
			if index <= last || index >= MaxDiskSize/Size {
				yield(Block{}, fmt.Errorf("read block map: %s is damaged", m.Path))
				return
			}
			last = index
			if !yield(Block{Index: int32(index), Sum: Sum(entry[4:])}, nil) {
				return
			}
		}
	}
}

// mapWriter writes a map and hashes it.
type mapWriter struct {
	w      *bufio.Writer
	hash   hash.Hash
	blocks int
}

func newMapWriter(w io.Writer, diskSize int64) *mapWriter {
	m := &mapWriter{hash: sha256.New()}
	m.w = bufio.NewWriterSize(io.MultiWriter(w, m.hash), 64<<10)
	_, _ = m.w.WriteString(mapMagic)
	_, _ = m.w.Write(binary.BigEndian.AppendUint64(nil, uint64(diskSize)))
	return m
}

// add appends a block; Writer keeps the error for finish.
func (m *mapWriter) add(b Block) {
	_, _ = m.w.Write(binary.BigEndian.AppendUint32(nil, uint32(b.Index)))
	_, _ = m.w.Write(b.Sum[:])
	m.blocks++
}

// finish returns the content hash.
func (m *mapWriter) finish() (string, error) {
	if err := m.w.Flush(); err != nil {
		return "", fmt.Errorf("write block map: %w", err)
	}
	return digest(m.hash), nil
}
