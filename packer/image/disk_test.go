package image

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	diskfs "github.com/diskfs/go-diskfs"
)

func TestPartitionsFillTheDiskWithoutOverlap(t *testing.T) {
	for _, size := range []int64{minDiskSize, 6 * gib, 16384 * gib} {
		l := newLayout(size)
		if l.espStart%mib != 0 || l.rootStart%mib != 0 || l.rootSize%mib != 0 {
			t.Errorf("%d: a partition is not on a MiB: %+v", size, l)
		}
		if l.espStart+espSize > l.rootStart {
			t.Errorf("%d: the partitions overlap: %+v", size, l)
		}
		// The second copy of the table takes the last 33 sectors.
		if l.rootStart+l.rootSize > size-33*sectorSize {
			t.Errorf("%d: the root reaches into the table's second copy: %+v", size, l)
		}
	}
}

// testDisk writes a disk with a kernel image of random-looking content.
func testDisk(t *testing.T) (disk string, uki []byte) {
	t.Helper()
	dir := t.TempDir()
	uki = bytes.Repeat([]byte("kernel image "), 500_000)
	source := filepath.Join(dir, "uki.efi")
	if err := os.WriteFile(source, uki, 0o644); err != nil {
		t.Fatal(err)
	}
	disk = filepath.Join(dir, "disk.raw")
	if err := writeDisk(disk, newLayout(minDiskSize), source); err != nil {
		t.Fatal(err)
	}
	return disk, uki
}

func TestTheDiskIsSparse(t *testing.T) {
	disk, uki := testDisk(t)
	info, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	used := info.Sys().(*syscall.Stat_t).Blocks * 512
	if info.Size() != minDiskSize || used > int64(len(uki))+8*mib {
		t.Errorf("the disk has %d bytes and takes %d", info.Size(), used)
	}
}

func TestSfdiskReadsThePartitionTable(t *testing.T) {
	sfdisk, err := exec.LookPath("sfdisk")
	if err != nil {
		t.Skip("sfdisk is not installed (package fdisk)")
	}
	disk, _ := testDisk(t)
	out, err := exec.Command(sfdisk, "--json", disk).Output()
	if err != nil {
		t.Fatalf("sfdisk: %v", err)
	}
	var dump struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	if err := json.Unmarshal(out, &dump); err != nil {
		t.Fatal(err)
	}
	table, l := dump.PartitionTable, newLayout(minDiskSize)
	if table.Label != "gpt" || table.ID != diskGUID || len(table.Partitions) != 2 {
		t.Fatalf("the table is %+v", table)
	}
	esp, root := table.Partitions[0], table.Partitions[1]
	if esp.Type != "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" || esp.UUID != espGUID || esp.Start != l.espStart/512 || esp.Size != espSize/512 {
		t.Errorf("the ESP is %+v", esp)
	}
	if root.Type != rootTypeX8664 || root.UUID != rootGUID || root.Start != l.rootStart/512 || root.Size != l.rootSize/512 {
		t.Errorf("the root is %+v", root)
	}
	if out, err := exec.Command(sfdisk, "--verify", disk).CombinedOutput(); err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
}

func TestMtoolsReadsTheKernelImage(t *testing.T) {
	mtype, err := exec.LookPath("mtype")
	if err != nil {
		t.Skip("mtype is not installed (package mtools)")
	}
	disk, uki := testDisk(t)
	out, err := exec.Command(mtype, "-i", disk+"@@1M", "::/EFI/BOOT/BOOTX64.EFI").Output()
	if err != nil {
		t.Fatalf("mtype: %v", err)
	}
	if !bytes.Equal(out, uki) {
		t.Errorf("the ESP holds %d other bytes, want %d", len(out), len(uki))
	}
}

func TestTheESPReadsBack(t *testing.T) {
	disk, uki := testDisk(t)
	opened, err := diskfs.Open(disk, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	esp, err := opened.GetFilesystem(1)
	if err != nil {
		t.Fatal(err)
	}
	file, err := esp.OpenFile("/EFI/BOOT/BOOTX64.EFI", os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(file)
	if err != nil || !bytes.Equal(got, uki) {
		t.Errorf("the ESP holds %d bytes (%v), want %d", len(got), err, len(uki))
	}
}

func TestTheSameInputMakesTheSamePartitionTable(t *testing.T) {
	first, _ := testDisk(t)
	second, _ := testDisk(t)
	read := func(name string) []byte {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		head := make([]byte, mib)
		if _, err := io.ReadFull(f, head); err != nil {
			t.Fatal(err)
		}
		return head
	}
	if !bytes.Equal(read(first), read(second)) {
		t.Error("two disks differ before their first partition")
	}
}

func TestTheRootIsPackedIntoItsPartition(t *testing.T) {
	l := newLayout(minDiskSize)
	got := strings.Join(makeRoot(l, "/mnt/root", "/mnt/disk.raw"), " ")
	for _, want := range []string{"-d /mnt/root /mnt/disk.raw 1964032k", "offset=135266304,", "-U " + rootUUID} {
		if !strings.Contains(got, want) {
			t.Errorf("mke2fs %s: want %q in it", got, want)
		}
	}
}

func TestTheKernelFindsItsRoot(t *testing.T) {
	got := commandLine([]string{"mitigations=auto"})
	if !strings.HasPrefix(got, "root=PARTUUID="+strings.ToLower(rootGUID)+" ") || !strings.HasSuffix(got, " mitigations=auto") {
		t.Errorf("the command line is %q", got)
	}
	// The last console is /dev/console, where the agent reports.
	if strings.LastIndex(got, "console=") != strings.Index(got, "console=ttyS0,115200") {
		t.Errorf("the serial port is not the last console: %q", got)
	}
}
