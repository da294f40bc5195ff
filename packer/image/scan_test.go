package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

func TestADiskIsDescribedByItsBytesAndNotByItsHoles(t *testing.T) {
	for name, write := range map[string]func(*os.File) error{
		"with holes": func(f *os.File) error { return f.Truncate(4 << 20) },
		"written out": func(f *os.File) error {
			_, err := f.Write(make([]byte, 4<<20))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), diskName)
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := write(f); err != nil {
				t.Fatal(err)
			}
			// Two pages of one block, and the last byte of the disk.
			for _, at := range []int64{1<<20 + 5000, 1<<20 + 9000, 4<<20 - 1} {
				if _, err := f.WriteAt([]byte{7}, at); err != nil {
					t.Fatal(err)
				}
			}
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(whole)
			got, err := scan(t.Context(), file)
			if want := (content{hex.EncodeToString(sum[:]), 3 * pageBlock, 2 * snapshotBlock}); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestADiskThatIsNoMultipleOfABlockIsReadToItsEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), diskName)
	whole := bytes.Repeat([]byte{1}, snapshotBlock+5)
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(whole)
	got, err := scan(t.Context(), file)
	if want := (content{hex.EncodeToString(sum[:]), snapshotBlock + 5, snapshotBlock + 5}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
