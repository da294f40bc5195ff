// Package blocks decides what of a disk goes into an EBS snapshot. It cuts the disk into
// the blocks of the EBS direct APIs, passes over holes and blocks of zeros, and compares
// what is left with the blocks of an earlier snapshot. It knows files and hashes only; it
// holds a few blocks in memory whatever the disk's size, and it never writes to the disk.
package blocks

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"iter"
)

// Size is the length of a block in bytes, the only one that the EBS direct APIs know.
const Size = 512 << 10

// MaxDiskSize is the largest volume that a snapshot can be of: 64 TiB.
const MaxDiskSize = 64 << 40

// Sum is the SHA-256 of a block.
type Sum [sha256.Size]byte

// ZeroSum is the hash of a block of zeros.
var ZeroSum = Sum(sha256.Sum256(make([]byte, Size)))

// Block is one block that is not all zeros.
type Block struct {
	Index int32 // offset on the disk divided by Size
	Sum   Sum
}

// Changes yields what has to be written to a snapshot that starts as parent for it to
// become disk, in ascending order: blocks that differ, and blocks of zeros (ZeroSum) where
// only the parent has data. A nil parent is an empty snapshot. Both must be ascending.
func Changes(disk, parent iter.Seq2[Block, error]) iter.Seq2[Block, error] {
	if parent == nil {
		return disk
	}
	return func(yield func(Block, error) bool) {
		next, stop := iter.Pull2(parent)
		defer stop()
		old, err, more := next()
		// zeros yields the parent's blocks before index, which the disk does not have.
		zeros := func(index int32, all bool) bool {
			for more && err == nil && (all || old.Index < index) {
				if !yield(Block{Index: old.Index, Sum: ZeroSum}, nil) {
					return false
				}
				old, err, more = next()
			}
			if err != nil {
				yield(Block{}, err)
			}
			return err == nil
		}
		for block, failed := range disk {
			if failed != nil {
				yield(Block{}, failed)
				return
			}
			if !zeros(block.Index, false) {
				return
			}
			same := false
			if more && old.Index == block.Index {
				same = old.Sum == block.Sum
				old, err, more = next()
			}
			if !same && !yield(block, nil) {
				return
			}
		}
		zeros(0, true)
	}
}

// Total is what a snapshot's writes come to.
type Total struct {
	Blocks int
	// Checksum is the aggregated checksum by EBS's method LINEAR: the SHA-256 over the raw
	// checksums of all written blocks in ascending order.
	Checksum Sum
}

// Add sums the writes up.
func Add(writes iter.Seq2[Block, error]) (Total, error) {
	var total Total
	linear := sha256.New()
	for block, err := range writes {
		if err != nil {
			return Total{}, err
		}
		linear.Write(block.Sum[:])
		total.Blocks++
	}
	linear.Sum(total.Checksum[:0])
	return total, nil
}

// Differ counts the writes.
func Differ(disk, parent iter.Seq2[Block, error]) (int, error) {
	count := 0
	for _, err := range Changes(disk, parent) {
		if err != nil {
			return 0, err
		}
		count++
	}
	return count, nil
}

// digest formats a hash as its users do.
func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
