package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A compressed file is cut into logical clusters of one block each. The index says of each
// whether compressed data begin in it (a head), and where; the data of a head reach to the
// next one and fill whole blocks of the disk, their first bytes being zeros as needed.

// Kinds of logical clusters.
const (
	kindPlain   = 0 // a head whose data are stored as they are
	kindHead    = 1
	kindNotHead = 2
)

// Bits of the index's header.
const (
	adviseCompact2B   = 0x1
	adviseBigCluster  = 0x2
	adviseBigCluster2 = 0x4 // of a second algorithm, which no head uses here
	adviseInterlaced  = 0x10
	supportedAdvice   = adviseCompact2B | adviseBigCluster | adviseBigCluster2 | adviseInterlaced
	blockCount        = 1 << 11 // in a distance: it counts the blocks of the head before it
	algorithmLZ4      = 0
	algorithmZstd     = 3
	indexHeader       = 8
	maxExtent         = 64 << 20
	maxCompressedFile = 1 << 36
)

var errIndex = errors.New("the index of a compressed file is damaged")

// extent is a run of a file that is compressed as one.
type extent struct {
	from, to int64 // in the file
	kind     int
	block    int64 // of the disk
	blocks   int64
}

// packed is a compressed file.
type packed struct {
	fs         *FS
	size       int64
	algorithm  byte
	interlaced bool
	extents    []extent

	mu    sync.Mutex
	index int // of the extent in plain
	plain []byte
}

// compressed reads a file's index.
func (f *FS) compressed(i inode) (*packed, error) {
	if i.size > maxCompressedFile {
		return nil, errIndex
	}
	start := (i.after + 7) / 8 * 8
	header := make([]byte, indexHeader)
	if _, err := f.disk.ReadAt(header, start); err != nil {
		return nil, fmt.Errorf("read the index of a compressed file: %w", err)
	}
	advice := binary.LittleEndian.Uint16(header[4:])
	if advice&^supportedAdvice != 0 || header[7] != 0 {
		return nil, fmt.Errorf("a file is compressed in a way that this reader does not know: advice %#x, clusters %#x", advice, header[7])
	}
	p := &packed{fs: f, size: i.size, algorithm: header[6] & 15, interlaced: advice&adviseInterlaced != 0, index: -1}
	if p.algorithm != algorithmLZ4 && p.algorithm != algorithmZstd {
		return nil, fmt.Errorf("a file is compressed with algorithm %d, which this reader does not know", p.algorithm)
	}
	count := int((i.size + f.blockSize() - 1) >> f.blockBits)
	clusters, err := f.compactIndex(start+indexHeader, count, advice)
	if err != nil {
		return nil, err
	}
	p.extents, err = f.extents(clusters, i.size)
	return p, err
}

// cluster is what the index says about a logical cluster.
type cluster struct {
	kind   int
	offset int64 // of a head in its cluster
	block  int64 // of a head's data
	count  int64 // of a head's blocks, in the cluster that follows it; else 0
}

// extents turns clusters into runs.
func (f *FS) extents(clusters []cluster, size int64) ([]extent, error) {
	var list []extent
	for n, c := range clusters {
		if c.kind == kindNotHead {
			if n == 0 {
				return nil, errIndex
			}
			if last := &list[len(list)-1]; c.count > 0 && clusters[n-1].kind != kindNotHead {
				last.blocks = c.count
			}
			continue
		}
		e := extent{from: int64(n)<<f.blockBits + c.offset, kind: c.kind, block: c.block, blocks: 1}
		if e.from == size { // mkfs marks the end like this
			break
		}
		if len(list) > 0 {
			list[len(list)-1].to = e.from
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		return nil, nil
	}
	list[len(list)-1].to = size
	if list[0].from != 0 {
		return nil, errIndex
	}
	for _, e := range list {
		if e.to <= e.from || e.to-e.from > maxExtent || e.blocks<<f.blockBits > maxExtent {
			return nil, errIndex
		}
	}
	return list, nil
}

// compactIndex reads an index of packs. A pack of 8 bytes has two clusters, one of 32 has
// sixteen; its last four bytes are the number of a block, from which the heads' count on.
// Packs of 32 must lie at multiples of that, so the first clusters and the last ones are in
// packs of 8.
func (f *FS) compactIndex(at int64, count int, advice uint16) ([]cluster, error) {
	first := int((32-at%32)/4) & 7
	wide := 0
	if advice&adviseCompact2B != 0 && first < count {
		wide = (count - first) / 16 * 16
	} else {
		first = 0
	}
	var clusters []cluster
	for _, run := range []struct{ clusters, size, each int }{{first, 8, 2}, {wide, 32, 16}, {count - first - wide, 8, 2}} {
		if run.clusters <= 0 {
			continue
		}
		packs := (run.clusters + run.each - 1) / run.each
		raw := make([]byte, packs*run.size)
		if _, err := f.disk.ReadAt(raw, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the index of a compressed file: %w", err)
		}
		at += int64(len(raw))
		for n := range packs {
			// The last pack may have more places than there are clusters.
			pack, err := f.pack(raw[n*run.size:(n+1)*run.size], run.each, min(run.each, run.clusters-n*run.each), advice&adviseBigCluster != 0)
			if err != nil {
				return nil, err
			}
			clusters = append(clusters, pack...)
		}
	}
	return clusters, nil
}

// pack reads the first count clusters of a pack that has room for more.
func (f *FS) pack(raw []byte, room, count int, big bool) ([]cluster, error) {
	low := max(f.blockBits, 12)
	width := uint((len(raw) - 4) * 8 / room)
	block := int64(binary.LittleEndian.Uint32(raw[len(raw)-4:]))
	clusters := make([]cluster, count)
	next := block
	if !big {
		next++ // without counts, the pack names the block before its first head's
	}
	for n := range clusters {
		bit := uint(n) * width //nolint:gosec // a pack has sixteen
		value := binary.LittleEndian.Uint32(slices.Concat(raw, make([]byte, 4))[bit/8:]) >> (bit % 8)
		c := cluster{kind: int(value >> low & 3)}
		value &= 1<<low - 1
		switch {
		case c.kind > kindNotHead:
			return nil, errIndex
		case c.kind != kindNotHead:
			c.offset, c.block = int64(value), next
			next++
		case big && value&blockCount != 0:
			c.count = int64(value &^ blockCount)
			// Of the blocks that it counts, its head has taken one already.
			if n > 0 && clusters[n-1].kind != kindNotHead {
				next += c.count - 1
			} else {
				next += c.count
			}
		}
		clusters[n] = c
	}
	return clusters, nil
}

// ReadAt reads and decompresses. It keeps the last extent, for those who read in order.
func (p *packed) ReadAt(buffer []byte, at int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(buffer) {
		if at >= p.size {
			return n, io.EOF
		}
		index, found := slices.BinarySearchFunc(p.extents, at, func(e extent, at int64) int {
			switch {
			case at < e.from:
				return 1
			case at >= e.to:
				return -1
			}
			return 0
		})
		if !found {
			return n, errIndex
		}
		if index != p.index {
			plain, err := p.decompress(p.extents[index])
			if err != nil {
				return n, err
			}
			p.index, p.plain = index, plain
		}
		read := copy(buffer[n:], p.plain[at-p.extents[index].from:])
		n, at = n+read, at+int64(read)
	}
	return n, nil
}

var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxExtent))
})

func (p *packed) decompress(e extent) ([]byte, error) {
	raw := make([]byte, e.blocks<<p.fs.blockBits)
	if n, err := p.fs.disk.ReadAt(raw, e.block<<p.fs.blockBits); n < len(raw) {
		return nil, fmt.Errorf("read compressed data: %w", err)
	}
	plain := make([]byte, e.to-e.from)
	if e.kind == kindPlain {
		return plain, p.copyPlain(plain, raw, e.from)
	}
	start := slices.IndexFunc(raw, func(b byte) bool { return b != 0 })
	if start < 0 {
		return nil, errors.New("compressed data are damaged: they are zeros")
	}
	var err error
	n := 0
	if p.algorithm == algorithmLZ4 {
		n, err = lz4.UncompressBlock(raw[start:], plain)
	} else {
		var d *zstd.Decoder
		if d, err = decoder(); err != nil {
			return nil, err
		}
		plain, err = d.DecodeAll(raw[start:], plain[:0])
		n = len(plain)
	}
	if err != nil || int64(n) != e.to-e.from {
		return nil, fmt.Errorf("compressed data are damaged: %d bytes of %d, %w", n, e.to-e.from, err)
	}
	return plain, nil
}

// copyPlain copies data that are stored as they are. Interlaced, each byte lies at its
// place in a block, so that those of the first block come last.
func (p *packed) copyPlain(plain, raw []byte, from int64) error {
	if len(plain) > len(raw) {
		return errIndex
	}
	if p.interlaced {
		first := int(p.fs.blockSize() - from&(p.fs.blockSize()-1))
		n := min(first, len(plain))
		copy(plain[:n], raw[len(raw)-first:])
		plain = plain[n:]
	}
	copy(plain, raw)
	return nil
}
