package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// superblock is dm-verity's, as veritysetup writes it before the hashes:
// https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity
type superblock struct {
	block int // the size of both kinds of blocks
	count int64
	salt  []byte
}

const (
	verityBlock = 4096
	perBlock    = verityBlock / sha256.Size
	chunkBlocks = 1024 // that a worker reads at once: 4 MiB
)

func readSuperblock(hashes io.ReaderAt) (superblock, error) {
	raw := make([]byte, 512)
	if _, err := hashes.ReadAt(raw, 0); err != nil {
		return superblock{}, fmt.Errorf("read the superblock: %w", err)
	}
	algorithm, _, _ := strings.Cut(string(raw[32:64]), "\x00")
	little := binary.LittleEndian
	s := superblock{block: int(little.Uint32(raw[64:])), count: int64(little.Uint64(raw[72:]) & (1<<48 - 1))} //nolint:gosec // masked
	salt := int(little.Uint16(raw[80:]))
	if string(raw[:8]) != "verity\x00\x00" || little.Uint32(raw[8:]) != 1 || little.Uint32(raw[12:]) != 1 || algorithm != "sha256" ||
		s.block != verityBlock || little.Uint32(raw[68:]) != verityBlock || salt > 256 || s.count == 0 {
		return superblock{}, fault{"the hashes begin with no dm-verity superblock of SHA-256 and blocks of 4096 bytes", fetchAgain}
	}
	s.salt = raw[88 : 88+salt]
	return s, nil
}

// checkVerity recomputes the tree of hashes from the data up, and holds each block of it
// against the one on the disk. It returns how many blocks the data have.
func checkVerity(ctx context.Context, data, hashes *io.SectionReader, rootHash []byte) (int64, error) {
	s, err := readSuperblock(hashes)
	if err != nil {
		return 0, err
	}
	if s.count*verityBlock > data.Size() {
		return 0, fault{fmt.Sprintf("its hashes are of %d blocks, and the partition has %d", s.count, data.Size()/verityBlock), fetchAgain}
	}
	levels := [][]byte{nil}
	if levels[0], err = hashBlocks(ctx, data, s); err != nil {
		return 0, err
	}
	if s.count == 1 { // its hash is the root hash, and there is no tree
		levels[0] = levels[0][:sha256.Size]
		if !bytes.Equal(levels[0], rootHash) {
			return 0, wrongRoot(levels[0], rootHash)
		}
		return 1, nil
	}
	for len(levels[len(levels)-1]) > verityBlock {
		below := levels[len(levels)-1]
		next, err := hashBlocks(ctx, io.NewSectionReader(bytes.NewReader(below), 0, int64(len(below))), superblock{count: int64(len(below) / verityBlock), salt: s.salt})
		if err != nil {
			return 0, err
		}
		levels = append(levels, next)
	}
	top := hashBlock(sha256.New(), s.salt, levels[len(levels)-1])
	different, err := compareTree(hashes, levels)
	if err != nil {
		return 0, err
	}
	switch {
	case bytes.Equal(top, rootHash) && different < 0:
		return s.count, nil
	case bytes.Equal(top, rootHash):
		return 0, fault{"the hashes on the disk are not those of the root file system, which is right itself", fetchAgain}
	case different >= 0:
		return 0, fault{fmt.Sprintf("block %d of the root file system was changed: it does not have the hash that the disk has for it", different), "do not boot the disk: " + fetchAgain}
	}
	return 0, wrongRoot(top, rootHash)
}

func wrongRoot(got, want []byte) error {
	return fault{fmt.Sprintf("the root file system was changed: it is not the one that the kernel boots, as it hashes to %s, and roothash= says %s", hex.EncodeToString(got), hex.EncodeToString(want)), "do not boot the disk: " + fetchAgain}
}

// hashBlocks hashes each block on all processors. The hashes are padded to whole blocks.
func hashBlocks(ctx context.Context, data io.ReaderAt, s superblock) ([]byte, error) {
	blocks := (s.count + perBlock - 1) / perBlock
	hashes := make([]byte, blocks*verityBlock)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for first := int64(0); first < s.count; first += chunkBlocks {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			n := min(chunkBlocks, s.count-first)
			chunk := make([]byte, n*verityBlock)
			if _, err := data.ReadAt(chunk, first*verityBlock); err != nil && err != io.EOF { //nolint:errorlint // ReadAt's own
				return err
			}
			hash := sha256.New()
			for i := range n {
				copy(hashes[(first+i)*sha256.Size:], hashBlock(hash, s.salt, chunk[i*verityBlock:(i+1)*verityBlock]))
			}
			return nil
		})
	}
	return hashes, group.Wait()
}

func hashBlock(hash interface {
	io.Writer
	Reset()
	Sum([]byte) []byte
}, salt, block []byte) []byte {
	hash.Reset()
	_, _ = hash.Write(salt) // a hash takes everything
	_, _ = hash.Write(block)
	return hash.Sum(nil)
}

// compareTree holds the levels against those on the disk, where the topmost lies first,
// one block after the superblock. It returns the first block of data whose hash differs,
// or -1; a difference further up counts as one in what is below it.
func compareTree(hashes io.ReaderAt, levels [][]byte) (int64, error) {
	at, different := int64(verityBlock), int64(-1)
	for i := len(levels) - 1; i >= 0; i-- {
		stored := make([]byte, len(levels[i]))
		if _, err := hashes.ReadAt(stored, at); err != nil {
			return 0, fault{fmt.Sprintf("the hashes on the disk end too early: %v", err), fetchAgain}
		}
		at += int64(len(stored))
		for n := 0; n < len(stored); n += sha256.Size {
			if !bytes.Equal(stored[n:n+sha256.Size], levels[i][n:n+sha256.Size]) {
				different = int64(n / sha256.Size)
				for range i {
					different *= perBlock
				}
				break
			}
		}
	}
	return different, nil
}
