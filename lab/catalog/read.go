package catalog

import (
	"errors"
	"fmt"
	"os"
)

// Block is one that a snapshot holds.
type Block struct {
	Index int
	Sum   Sum
}

// errEnough ends a listing.
var errEnough = errors.New("enough")

// Blocks lists at most limit of the blocks of a completed snapshot, the first at or after
// index from.
func (c *Catalog) Blocks(s Snapshot, from, limit int) ([]Block, error) {
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", s.ID, err)
	}
	defer b.close()
	var list []Block
	err = b.each(from, func(index int, sum Sum) error {
		if len(list) == limit {
			return errEnough
		}
		list = append(list, Block{index, sum})
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, err
}

// Read reads a block of a completed snapshot; not ok when there is none at the index.
func (c *Catalog) Read(s Snapshot, index int) (data []byte, sum Sum, ok bool, err error) {
	b, err := openBlocks(c.snapshot(s.ID), os.O_RDONLY)
	if err != nil {
		return nil, sum, false, fmt.Errorf("open snapshot %s: %w", s.ID, err)
	}
	defer b.close()
	if sum, err = b.sum(index); err != nil || sum == (Sum{}) {
		return nil, sum, false, err
	}
	data = make([]byte, BlockSize)
	if _, err := b.disk.ReadAt(data, int64(index)*BlockSize); err != nil {
		return nil, sum, false, fmt.Errorf("read block %d of snapshot %s: %w", index, s.ID, err)
	}
	return data, sum, true, nil
}
