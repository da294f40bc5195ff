package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
		want   []string // devices of the roots
	}{
		{"one disk", complete, []string{"nvme1n1p2"}},
		{"a disk of another kind beside it", with(map[string]string{"nvme0n1 nvme0n1p1": "data"}), []string{"nvme1n1p2"}},
		{"a disk that lacks its data beside it", with(map[string]string{"nvme0n1 nvme0n1p2": "ovenbird-root", "nvme0n1 nvme0n1p3": "ovenbird-root-verity"}), []string{"nvme1n1p2"}},
		{"another node's disk beside it", with(map[string]string{"nvme2n1 nvme2n1p2": "ovenbird-root", "nvme2n1 nvme2n1p3": "ovenbird-root-verity", "nvme2n1 nvme2n1p4": "ovenbird-var"}), []string{"nvme1n1p2", "nvme2n1p2"}},
		{"parts on two disks", map[string]string{"nvme0n1 nvme0n1p2": "ovenbird-root", "nvme1n1 nvme1n1p3": "ovenbird-root-verity", "nvme1n1 nvme1n1p4": "ovenbird-var"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := findNodes(sys(t, test.labels))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range found {
				got = append(got, n["ovenbird-root"].device)
				if !strings.HasPrefix(n["ovenbird-root"].number, "259:") {
					t.Errorf("the root's number is %q", n["ovenbird-root"].number)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the roots are on %q, want %q", got, test.want)
			}
		})
	}
}

func TestOfSeveralNodesTheOneThatIsMeantBoots(t *testing.T) {
	two := map[string]string{}
	for _, disk := range []string{"nvme0n1", "nvme1n1"} {
		for n, label := range []string{"ovenbird-root", "ovenbird-root-verity", "ovenbird-var"} {
			two[fmt.Sprintf("%s %sp%d", disk, disk, n)] = label
		}
	}
	on := func(drives ...string) func(node) bool {
		return func(n node) bool { return slices.Contains(drives, n["ovenbird-root"].drive) }
	}
	for _, test := range []struct {
		name        string
		is, started func(node) bool
		want        string // the drive
	}{
		{"another image's beside it", on("nvme1n1"), on(), "nvme1n1"},
		{"another node's of the same image beside it", on("nvme0n1", "nvme1n1"), on("nvme1n1"), "nvme1n1"},
		{"another image's where the firmware started", on("nvme1n1"), on("nvme0n1"), "nvme1n1"},
		{"two that cannot be told apart", on("nvme0n1", "nvme1n1"), on(), ""},
		{"two where the firmware started", on("nvme0n1", "nvme1n1"), on("nvme0n1", "nvme1n1"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found, err := awaitNode(withDeadline(t, time.Minute), sys(t, two), choice{is: test.is, started: test.started})
			if got := found["ovenbird-var"].drive; got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got the drive %q, %v, want %q", got, err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), "of several disks") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func withDeadline(t *testing.T, left time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), left)
	t.Cleanup(cancel)
	return ctx
}

func TestTheFirmwareTellsWhichDriveItStartedFrom(t *testing.T) {
	const (
		root      = "0201 0c00 d0410a03 00000000"
		pci       = "0101 0600 00 03"
		behind    = "0101 0600 02 1d 0101 0600 00 00"
		namespace = "0317 1000 01000000 0000000000000000"
		file      = "0404 0600 6100"
		end       = "7fff 0400"
	)
	option := func(path string) string {
		path = strings.ReplaceAll(path, " ", "")
		return fmt.Sprintf("01000000 %02x00 5500 4500 0000 %s", len(path)/2, path)
	}
	for _, test := range []struct{ name, current, option, want string }{
		{"a drive", "0a00", option(root + pci + namespace + end), "03.0"},
		{"a drive behind a bridge", "0a00", option(root + behind + namespace + file + end), "1d.2/00.0"},
		{"a network card", "0a00", option(root + pci + end), ""},
		{"a file of no place", "0a00", option(file + end), ""},
		{"a path that is cut short", "0a00", "01000000 4000 5500 0000 0201", ""},
		{"a part of no length", "0a00", option("0101 0000 00 03"), ""},
		{"an option that is gone", "0b00", option(root + pci + namespace + end), ""},
		{"nothing", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string]string{"BootCurrent": test.current, "Boot000A": test.option} {
				raw, err := hex.DecodeString("07000000" + strings.ReplaceAll(content, " ", ""))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name+"-8be4df61-93ca-11d2-aa0d-00e098032b8c"), raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := bootWay(dir); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestADriveHasAPlaceOnTheBus(t *testing.T) {
	root := t.TempDir()
	link := func(name, target string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, target), file); err != nil {
			t.Fatal(err)
		}
	}
	for _, controller := range []string{"pci0000:00/0000:00:03.0/nvme/nvme0", "pci0000:00/0000:00:1d.2/0000:05:00.0/nvme/nvme1"} {
		transport := filepath.Join(root, "devices", controller, "transport")
		if err := os.MkdirAll(filepath.Dir(transport), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(transport, []byte("pcie\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link("class/block/nvme0n1/device", "devices/pci0000:00/0000:00:03.0/nvme/nvme0")
	link("class/block/nvme1n1/device", "devices/virtual/nvme-subsystem/nvme-subsys1")
	link("devices/virtual/nvme-subsystem/nvme-subsys1/nvme1", "devices/pci0000:00/0000:00:1d.2/0000:05:00.0/nvme/nvme1")
	for drive, want := range map[string]string{"nvme0n1": "03.0", "nvme1n1": "1d.2/00.0", "loop0": ""} {
		if got := driveWay(filepath.Join(root, "class/block"), drive); got != want {
			t.Errorf("%s: got %q, want %q", drive, got, want)
		}
	}
}

func TestTheTopmostHashBlockTellsWhoseHashesTheyAre(t *testing.T) {
	top := bytes.Repeat([]byte{7}, 4096)
	sb := superblock{Signature: [8]byte{'v', 'e', 'r', 'i', 't', 'y'}, Version: 1, DataBlockSize: 4096, HashBlockSize: 4096, SaltSize: 2, Salt: [256]byte{0xab, 0xcd}}
	device := filepath.Join(t.TempDir(), "hashes")
	content := append(encode(t, sb).Bytes(), make([]byte, 4096-512)...)
	if err := os.WriteFile(device, append(content, top...), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append([]byte{0xab, 0xcd}, top...))
	if !vouchedFor(device, hex.EncodeToString(sum[:])) {
		t.Error("its own root hash: not found to be its own")
	}
	if sum[0] ^= 1; vouchedFor(device, hex.EncodeToString(sum[:])) {
		t.Error("another root hash: taken for its own")
	}
	if vouchedFor(filepath.Join(t.TempDir(), "none"), "") {
		t.Error("no device at all: taken for its own")
	}
}

func TestADiskThatNeverComesIsAnErrorThatSaysWhatThereIs(t *testing.T) {
	all := func(are bool) choice {
		return choice{is: func(node) bool { return are }, started: func(node) bool { return are }}
	}
	_, err := awaitNode(withDeadline(t, 50*time.Millisecond), sys(t, map[string]string{"nvme0n1 nvme0n1p1": "data"}), all(true))
	if err == nil || !strings.Contains(err.Error(), "ovenbird-root-verity") || !strings.HasSuffix(err.Error(), "there are: nvme0n1p1 (data)") {
		t.Errorf("the error is %v", err)
	}
	_, err = awaitNode(withDeadline(t, 50*time.Millisecond), sys(t, map[string]string{"a a1": "ovenbird-root", "a a2": "ovenbird-root-verity", "a a3": "ovenbird-var"}), all(false))
	if err == nil || !strings.Contains(err.Error(), "root hash of the command line is that of no disk") {
		t.Errorf("the error for another node's disk is %v", err)
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
