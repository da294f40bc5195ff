package image

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	sectorSize  = 512
	espSize     = 128 * mib
	minDiskSize = 2 * gib
	maxDiskSize = 16384 * gib // the largest EBS volume that boots

	// Identifiers of the disk and its parts. They are the same in every image, so that
	// the kernel's command line can name the root and two builds can be compared.
	diskGUID = "2C5E0F6A-4B0B-4E0E-9C39-0E3D2A7F1B61"
	espGUID  = "8A1D4C52-70E1-4E9F-8B21-5C4E1F0D3A62"
	rootGUID = "5F1B8B4E-6F3A-4E2A-9D0C-0A1E6C2B7D63"
	rootUUID = "d2b7a3c4-1e5f-4a86-b0c9-7f8e6d5c4b64" // the file system's own
	// The Discoverable Partitions Specification's type for an x86-64 root, by which
	// systemd-repart knows the partition to grow.
	rootTypeX8664 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
)

// layout says where on the disk each part lies, in bytes.
type layout struct {
	disk      int64
	espStart  int64
	rootStart int64
	rootSize  int64
}

// newLayout places a 128 MiB ESP at 1 MiB and gives the rest to the root, leaving the
// last MiB to the second copy of the partition table.
func newLayout(disk int64) layout {
	l := layout{disk: disk, espStart: mib}
	l.rootStart = l.espStart + espSize
	l.rootSize = disk - l.rootStart - mib
	return l
}

// table is the partition table of the layout.
func (l layout) table() *gpt.Table {
	//nolint:gosec // parseSize bounds every number
	partition := func(index int, start, size int64, kind gpt.Type, name, guid string) *gpt.Partition {
		return &gpt.Partition{
			Index: index,
			Start: uint64(start / sectorSize),
			End:   uint64((start+size)/sectorSize - 1),
			Size:  uint64(size),
			Type:  kind,
			Name:  name,
			GUID:  guid,
		}
	}
	return &gpt.Table{
		GUID:               diskGUID,
		ProtectiveMBR:      true,
		LogicalSectorSize:  sectorSize,
		PhysicalSectorSize: sectorSize,
		Partitions: []*gpt.Partition{
			partition(1, l.espStart, espSize, gpt.EFISystemPartition, "esp", espGUID),
			partition(2, l.rootStart, l.rootSize, rootTypeX8664, "root", rootGUID),
		},
	}
}

// parseSize reads a size such as 6GiB or 6144MiB.
func parseSize(s string) (int64, error) {
	number, unit := s, int64(0)
	for suffix, factor := range map[string]int64{"MiB": mib, "GiB": gib} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = rest, factor
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
	if err != nil || unit == 0 || n <= 0 {
		return 0, fmt.Errorf("%q is not a size; write it like %s or 6144MiB", s, defaultDiskSize)
	}
	size := n * unit
	if size < minDiskSize || size > maxDiskSize {
		return 0, fmt.Errorf("%s is out of range: 2GiB to 16384GiB", s)
	}
	return size, nil
}

// commandLine is what the kernel boots with. Everything that it takes to reach the
// root (NVMe, GPT, ext4) is built into Debian's cloud kernel, so there is no initrd.
func commandLine(extra []string) string {
	args := []string{
		"root=PARTUUID=" + strings.ToLower(rootGUID),
		"rootfstype=ext4",
		"rootwait",
		"rw",
		"fsck.mode=skip", // the journal is replayed at mount; a node is replaced, not repaired
		"console=tty0",
		"console=ttyS0,115200",
		"loglevel=6",
		"panic=10",           // a node that cannot boot must not hang for ever
		"systemd.gpt_auto=0", // fstab says all there is to mount
		"systemd.getty_auto=0",
		// The console is for the agent's lines. systemd would animate a line for as long
		// as the agent's start job runs, which is until the node is Ready.
		"systemd.show_status=error",
		"nvme_core.io_timeout=4294967295", // EBS: "Amazon EBS volumes and NVMe on Linux instances"
	}
	return strings.Join(append(args, extra...), " ")
}
