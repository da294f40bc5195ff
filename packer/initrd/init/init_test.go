package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheRootHashComesFromTheCommandLine(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"roothash=abc console=ttyS0\n", "abc"},
		{"quiet roothash=abc\n", "abc"},
		{"quiet noroothash=abc\n", ""},
	} {
		if got, err := rootHash(test.line); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: got %q, %v, want %q", test.line, got, err, test.want)
		}
	}
}

// sys lays out a /sys/class/block of disks with partitions, "disk partition" to label.
func sys(t *testing.T, labels map[string]string) string {
	t.Helper()
	root := t.TempDir()
	class := filepath.Join(root, "class/block")
	if err := os.MkdirAll(class, 0o755); err != nil {
		t.Fatal(err)
	}
	minor := 0
	for place, label := range labels {
		disk, name, _ := strings.Cut(place, " ")
		device := filepath.Join(root, "devices", disk, name)
		if err := os.MkdirAll(device, 0o755); err != nil {
			t.Fatal(err)
		}
		minor++
		uevent := fmt.Sprintf("MAJOR=259\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=partition\nPARTNAME=%s\n", minor, name, label)
		if err := os.WriteFile(filepath.Join(device, "uevent"), []byte(uevent), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("../../devices", disk, name), filepath.Join(class, name)); err != nil {
			t.Fatal(err)
		}
	}
	return class
}

func TestPartitionsAreOfOneDisk(t *testing.T) {
	complete := map[string]string{
		"nvme1n1 nvme1n1p1": "esp", "nvme1n1 nvme1n1p2": "ovenbird-root",
		"nvme1n1 nvme1n1p3": "ovenbird-root-verity", "nvme1n1 nvme1n1p4": "ovenbird-var",
	}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range []map[string]string{complete, more} {
			for place, label := range m {
				all[place] = label
			}
		}
		return all
	}
	for _, test := range []struct {
		name   string
		labels map[string]string
		want   string // device of the root; empty: none
	}{
		{"one disk", complete, "nvme1n1p2"},
		{"a disk of another kind beside it", with(map[string]string{"nvme0n1 nvme0n1p1": "data"}), "nvme1n1p2"},
		{"a disk that lacks its data beside it", with(map[string]string{"nvme0n1 nvme0n1p2": "ovenbird-root", "nvme0n1 nvme0n1p3": "ovenbird-root-verity"}), "nvme1n1p2"},
		{"another node's disk beside it", with(map[string]string{"nvme2n1 nvme2n1p2": "ovenbird-root", "nvme2n1 nvme2n1p3": "ovenbird-root-verity", "nvme2n1 nvme2n1p4": "ovenbird-var"}), "nvme1n1p2"},
		{"parts on two disks", map[string]string{"nvme0n1 nvme0n1p2": "ovenbird-root", "nvme1n1 nvme1n1p3": "ovenbird-root-verity", "nvme1n1 nvme1n1p4": "ovenbird-var"}, ""},
		{"nothing", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := findPartitions(sys(t, test.labels))
			if err != nil {
				t.Fatal(err)
			}
			if got := found["ovenbird-root"].device; got != test.want {
				t.Errorf("the root is on %q, want %q", got, test.want)
			}
			if found != nil && !strings.HasPrefix(found["ovenbird-root"].number, "259:") {
				t.Errorf("the root's number is %q", found["ovenbird-root"].number)
			}
		})
	}
}

func TestADiskThatNeverComesIsAnErrorThatSaysWhatThereIs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := awaitPartitions(ctx, sys(t, map[string]string{"nvme0n1 nvme0n1p1": "data"}))
	if err == nil || !strings.Contains(err.Error(), "ovenbird-root-verity") || !strings.HasSuffix(err.Error(), "there are: nvme0n1p1 (data)") {
		t.Errorf("the error is %v", err)
	}
}

func encode(t *testing.T, sb superblock) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, sb); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 512 {
		t.Fatalf("a superblock has %d bytes, want 512", b.Len())
	}
	return &b
}

func TestTheVerityTableSaysWhatTheSuperblockSays(t *testing.T) {
	written := superblock{
		Signature: [8]byte{'v', 'e', 'r', 'i', 't', 'y'}, Version: 1, HashType: 1,
		Algorithm: [32]byte{'s', 'h', 'a', '2', '5', '6'}, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 40000,
		SaltSize: 2, Salt: [256]byte{0xab, 0xcd},
	}
	sb, err := readSuperblock(encode(t, written))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sb.sectors(), uint64(320000); got != want {
		t.Errorf("%d sectors, want %d", got, want)
	}
	got := sb.table("259:2", "259:3", "beef")
	if want := "1 259:2 259:3 4096 4096 40000 1 sha256 beef abcd 1 panic_on_corruption"; got != want {
		t.Errorf("the table is %q, want %q", got, want)
	}
	if got := (superblock{Algorithm: written.Algorithm}).table("a", "b", "c"); !strings.Contains(got, " sha256 c - 1 ") {
		t.Errorf("without a salt the table is %q", got)
	}
}

func TestWhatIsNoSuperblockIsRefused(t *testing.T) {
	good := superblock{Signature: [8]byte{'v', 'e', 'r', 'i', 't', 'y'}, Version: 1, DataBlockSize: 4096, HashBlockSize: 4096}
	for name, spoil := range map[string]func(*superblock){
		"another signature": func(sb *superblock) { sb.Signature[0] = 'V' },
		"another version":   func(sb *superblock) { sb.Version = 2 },
		"no block size":     func(sb *superblock) { sb.DataBlockSize = 0 },
		"an odd block size": func(sb *superblock) { sb.HashBlockSize = 4095 },
		"a huge block size": func(sb *superblock) { sb.HashBlockSize = 1 << 30 },
		"a long salt":       func(sb *superblock) { sb.SaltSize = 257 },
	} {
		sb := good
		spoil(&sb)
		if _, err := readSuperblock(encode(t, sb)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := readSuperblock(strings.NewReader("short")); err == nil {
		t.Error("half a superblock: accepted")
	}
}

func TestTheMachineIDIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lib/ovenbird")
	first, err := machineID(dir)
	if err != nil || !validID([]byte(first)) {
		t.Fatalf("the id is %q, %v", first, err)
	}
	if again, err := machineID(dir); err != nil || again != first {
		t.Errorf("the next boot has %q, %v, want %q", again, err, first)
	}
	// A power cut at the first boot can leave half a file under its temporary name only;
	// whatever else is there is no id.
	if err := os.WriteFile(filepath.Join(dir, "machine-id"), []byte("uninitialized\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if other, err := machineID(dir); err != nil || other == first || !validID([]byte(other)) {
		t.Errorf("in place of a file that is no id: %q, %v", other, err)
	}
}
