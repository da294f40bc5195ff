package blocks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// disk makes a sparse file of size bytes with data at the offsets given.
func disk(t *testing.T, size int64, data map[int64][]byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for offset, content := range data {
		if _, err := f.WriteAt(content, offset); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func scan(t *testing.T, f *os.File) (Map, string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "map"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	content, count, err := Scan(t.Context(), f, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := OpenMap(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if m.Blocks != count {
		t.Errorf("the map has %d blocks, the scan saw %d", m.Blocks, count)
	}
	return m, content
}

func collect(t *testing.T, seq iter.Seq2[Block, error]) []Block {
	t.Helper()
	var all []Block
	for b, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func filled(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func TestHolesAndZerosAreNotInTheMap(t *testing.T) {
	f := disk(t, 40*Size+1024, map[int64][]byte{
		0:             filled(1, 512),
		3*Size - 1:    filled(2, 2), // over two blocks
		10 * Size:     filled(0, 2*Size),
		20*Size + 700: filled(3, 5),
		40 * Size:     filled(4, 1024), // a last block that is cut short
	})
	m, _ := scan(t, f)
	var indices []int32
	for _, b := range collect(t, m.All()) {
		indices = append(indices, b.Index)
	}
	if want := []int32{0, 2, 3, 20, 40}; !slices.Equal(indices, want) {
		t.Errorf("the blocks are %v, want %v", indices, want)
	}
	last := make([]byte, Size)
	copy(last, filled(4, 1024))
	if got := collect(t, m.All())[4].Sum; got != sha256.Sum256(last) {
		t.Error("the last block is not padded with zeros")
	}
}

func TestTheContentHashIsOfTheBytesAndNotOfTheFile(t *testing.T) {
	data := map[int64][]byte{5 * Size: filled(1, 100)}
	_, sparse := scan(t, disk(t, 8*Size, data))
	data[0] = filled(0, 2*Size)
	if _, full := scan(t, disk(t, 8*Size, data)); full != sparse {
		t.Error("zeros in place of a hole change the hash")
	}
	data[7] = filled(1, 1)
	if _, other := scan(t, disk(t, 8*Size, data)); other == sparse {
		t.Error("a changed byte does not change the hash")
	}
	if _, longer := scan(t, disk(t, 9*Size, map[int64][]byte{5 * Size: filled(1, 100)})); longer == sparse {
		t.Error("another size does not change the hash")
	}
}

// sequence is a map's blocks, from index to content.
func sequence(of map[int32]byte) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for _, index := range slices.Sorted(maps.Keys(of)) {
			if !yield(Block{index, Sum{of[index]}}, nil) {
				return
			}
		}
	}
}

func TestOnlyWhatDiffersFromTheParentIsWritten(t *testing.T) {
	const zero = 255
	for name, test := range map[string]struct{ disk, parent, want map[int32]byte }{
		"no parent":                           {map[int32]byte{1: 1, 5: 2}, nil, map[int32]byte{1: 1, 5: 2}},
		"an equal parent":                     {map[int32]byte{1: 1, 5: 2}, map[int32]byte{1: 1, 5: 2}, nil},
		"a changed block":                     {map[int32]byte{1: 1, 5: 2}, map[int32]byte{1: 1, 5: 3}, map[int32]byte{5: 2}},
		"a new block":                         {map[int32]byte{1: 1, 5: 2}, map[int32]byte{5: 2}, map[int32]byte{1: 1}},
		"blocks that only the parent has":     {map[int32]byte{4: 1}, map[int32]byte{1: 1, 4: 1, 7: 2, 9: 3}, map[int32]byte{1: zero, 7: zero, 9: zero}},
		"an empty disk":                       {nil, map[int32]byte{0: 1}, map[int32]byte{0: zero}},
		"everything that can be at once":      {map[int32]byte{1: 1, 3: 3, 4: 4}, map[int32]byte{0: 9, 1: 1, 2: 2, 3: 1, 9: 1}, map[int32]byte{0: zero, 2: zero, 3: 3, 4: 4, 9: zero}},
		"an empty parent that is not missing": {map[int32]byte{1: 1}, map[int32]byte{}, map[int32]byte{1: 1}},
	} {
		var parent iter.Seq2[Block, error]
		if test.parent != nil {
			parent = sequence(test.parent)
		}
		got := collect(t, Changes(sequence(test.disk), parent))
		var want []Block
		for b := range sequence(test.want) {
			if b.Sum == (Sum{zero}) {
				b.Sum = ZeroSum
			}
			want = append(want, b)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the writes are %v, want %v", name, got, want)
		}
	}
}

func TestTheAggregatedChecksumIsOverAscendingRawSums(t *testing.T) {
	total, err := Add(sequence(map[int32]byte{7: 7, 2: 2}))
	if err != nil {
		t.Fatal(err)
	}
	two, seven := Sum{2}, Sum{7}
	if want := sha256.Sum256(slices.Concat(two[:], seven[:])); total.Checksum != want || total.Blocks != 2 {
		t.Errorf("the total is %v", total)
	}
}

func TestADamagedMapIsRefused(t *testing.T) {
	m, _ := scan(t, disk(t, 4*Size, map[int64][]byte{0: filled(1, 9), 2 * Size: filled(2, 9)}))
	content, err := os.ReadFile(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	swapped := slices.Clone(content)
	copy(swapped[mapHeader:], content[mapHeader+mapEntry:])
	copy(swapped[mapHeader+mapEntry:], content[mapHeader:mapHeader+mapEntry])
	for name, damaged := range map[string][]byte{
		"cut short": content[:len(content)-1], "empty": nil, "of another kind": append([]byte("x"), content[1:]...), "out of order": swapped,
	} {
		path := filepath.Join(t.TempDir(), "map")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMap(path)
		if err == nil {
			_, err = Add(m.All())
		}
		if err == nil {
			t.Errorf("a map that is %s is read", name)
		}
	}
}

func TestACancelledScanStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := disk(t, 64*Size, map[int64][]byte{0: filled(1, 64*Size)})
	_, _, err := Scan(ctx, f, new(bytes.Buffer), func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}
