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
		verity, err := verityLayout(size, 170*mib+1, 2*mib)
		if err != nil {
			t.Fatal(err)
		}
		for name, l := range map[string]layout{"ext4": ext4Layout(size), "verity": verity} {
			partitions := l.table().Partitions
			if want := map[string]int{"ext4": 2, "verity": 4}[name]; len(partitions) != want {
				t.Errorf("%s: %d partitions, want %d", name, len(partitions), want)
			}
			free := uint64(mib / sectorSize)
			for _, p := range partitions {
				if p.Start != free || p.Start*sectorSize%uint64(mib) != 0 || (p.End+1)*sectorSize%uint64(mib) != 0 {
					t.Errorf("%s, %d: %s is not on the next MiB: %+v", name, size, p.Name, p)
				}
				free = p.End + 1
			}
			// The second copy of the table takes the last 33 sectors.
			if end := int64(free) * sectorSize; end != size-mib {
				t.Errorf("%s, %d: the partitions end at %d", name, size, end)
			}
		}
	}
}

func TestARootThatLeavesNoRoomIsRefused(t *testing.T) {
	_, err := verityLayout(2*gib, 1600*mib, 13*mib)
	if err == nil || !strings.Contains(err.Error(), "disk_size: 2048 MiB leave 305 MiB for /var") {
		t.Errorf("the error is %v", err)
	}
}

func testLayout(t *testing.T) layout {
	t.Helper()
	l, err := verityLayout(minDiskSize, 170*mib, 2*mib)
	if err != nil {
		t.Fatal(err)
	}
	return l
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
	if err := writeDisk(disk, testLayout(t), source); err != nil {
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
	table, l := dump.PartitionTable, testLayout(t)
	if table.Label != "gpt" || table.ID != diskGUID || len(table.Partitions) != 4 {
		t.Fatalf("the table is %+v", table)
	}
	for i, want := range []struct {
		partition
		kind string
	}{
		{l.esp, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"},
		{l.root, rootTypeX8664}, {l.verity, rootVerityTypeX8664}, {l.data, varType},
	} {
		got := table.Partitions[i]
		if got.Type != want.kind || got.UUID != want.guid || got.Name != want.name || got.Start != want.start/512 || got.Size != want.size/512 {
			t.Errorf("partition %d is %+v, want %+v", i+1, got, want)
		}
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

func TestAFileSystemIsPackedIntoItsPartition(t *testing.T) {
	l := ext4Layout(minDiskSize)
	got := strings.Join(makeExt4(l.root, "root", rootUUID, "/mnt/root", "/mnt/disk.raw"), " ")
	for _, want := range []string{"-d /mnt/root /mnt/disk.raw 1964032k", "offset=135266304,", "-U " + rootUUID} {
		if !strings.Contains(got, want) {
			t.Errorf("mke2fs %s: want %q in it", got, want)
		}
	}
}

func TestTheKernelFindsItsRoot(t *testing.T) {
	for kind, want := range map[string]string{
		rootExt4:   "root=PARTUUID=" + strings.ToLower(rootGUID) + " ",
		rootVerity: "roothash=0123 ",
	} {
		b := &bake{config: &Config{RootFilesystem: kind, KernelArguments: []string{"mitigations=auto"}}, rootHash: "0123"}
		got := b.commandLine()
		if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " mitigations=auto") {
			t.Errorf("%s: the command line is %q", kind, got)
		}
		// The last console is /dev/console, where the agent reports.
		if strings.LastIndex(got, "console=") != strings.Index(got, "console=ttyS0,115200") {
			t.Errorf("%s: the serial port is not the last console: %q", kind, got)
		}
	}
}
