package image

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30

	sectorSize  = 512
	espSize     = 128 * mib
	minDiskSize = 2 * gib
	maxDiskSize = 16384 * gib // the largest EBS volume that boots
	minData     = 512 * mib   // what a node writes before it has grown its data partition

	// Identifiers of the disk and its parts. They are the same in every image, so that
	// they can be named before it is made and two builds can be compared.
	diskGUID   = "2C5E0F6A-4B0B-4E0E-9C39-0E3D2A7F1B61"
	espGUID    = "8A1D4C52-70E1-4E9F-8B21-5C4E1F0D3A62"
	rootGUID   = "5F1B8B4E-6F3A-4E2A-9D0C-0A1E6C2B7D63"
	verityGUID = "7B3F9C1D-2E84-4C57-A6D0-31F5E8B92A64"
	varGUID    = "C94E6A20-58B7-4D13-9F42-6E0A7D1C5B65"
	rootUUID   = "d2b7a3c4-1e5f-4a86-b0c9-7f8e6d5c4b64" // the file systems' own
	verityUUID = "e5c1d8f2-6b39-4f07-8a54-2d9b7c3e1f66"
	varUUID    = "f8a2b6d4-3c57-4e91-b1d8-5e0c9a7f2d67"

	// Types of the Discoverable Partitions Specification, by which systemd-repart knows
	// the partition to grow.
	rootTypeX8664       = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	rootVerityTypeX8664 = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
	varType             = "4D21B016-B534-45C2-A9FB-5C16E091FD2D"
)

// partition is a part of the disk; start and size are in bytes, whole MiB.
type partition struct {
	name        string
	kind        gpt.Type
	guid        string
	start, size int64
}

// layout says where on the disk each part lies. The last MiB is left to the second copy
// of the partition table.
type layout struct {
	disk int64
	esp  partition
	// With an ext4 root, root and nothing else.
	root, verity, data partition
}

// ext4Layout gives what the ESP leaves to the root.
func ext4Layout(size int64) layout {
	l := newLayout(size)
	l.root = partition{name: "root", kind: rootTypeX8664, guid: rootGUID, start: l.esp.end(), size: size - l.esp.end() - mib}
	return l
}

// verityLayout places a root and its hashes, given their sizes in bytes, and leaves the
// rest to the data partition. That one comes last, where it can grow.
func verityLayout(size, root, hashes int64) (layout, error) {
	l := newLayout(size)
	l.root = partition{name: disk.Root, kind: rootTypeX8664, guid: rootGUID, start: l.esp.end(), size: roundUp(root)}
	l.verity = partition{name: disk.RootVerity, kind: rootVerityTypeX8664, guid: verityGUID, start: l.root.end(), size: roundUp(hashes)}
	l.data = partition{name: disk.Var, kind: varType, guid: varGUID, start: l.verity.end(), size: size - l.verity.end() - mib}
	if l.data.size < minData {
		return layout{}, fmt.Errorf("disk_size: %d MiB leave %d MiB for /var, which needs %d MiB", size/mib, max(l.data.size, 0)/mib, minData/mib)
	}
	return l, nil
}

func newLayout(size int64) layout {
	return layout{disk: size, esp: partition{name: "esp", kind: gpt.EFISystemPartition, guid: espGUID, start: mib, size: espSize}}
}

func (p partition) end() int64 { return p.start + p.size }

func roundUp(n int64) int64 { return (n + mib - 1) / mib * mib }

// table is the partition table of the layout.
func (l layout) table() *gpt.Table {
	table := &gpt.Table{
		GUID:               diskGUID,
		ProtectiveMBR:      true,
		LogicalSectorSize:  sectorSize,
		PhysicalSectorSize: sectorSize,
	}
	for _, p := range []partition{l.esp, l.root, l.verity, l.data} {
		if p.size == 0 {
			continue
		}
		//nolint:gosec // parseSize bounds every number
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: len(table.Partitions) + 1,
			Start: uint64(p.start / sectorSize),
			End:   uint64(p.end()/sectorSize - 1),
			Size:  uint64(p.size),
			Type:  p.kind,
			Name:  p.name,
			GUID:  p.guid,
		})
	}
	return table
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

// commandLine is what the kernel boots with. Of an ext4 root everything that it takes to
// reach it (NVMe, GPT, ext4) is built into Debian's cloud kernel, so there is no initrd.
func (b *bake) commandLine() string {
	args := []string{"roothash=" + b.rootHash}
	if b.config.RootFilesystem == rootExt4 {
		args = []string{"root=PARTUUID=" + strings.ToLower(rootGUID), "rootfstype=ext4", "rootwait", "rw"}
	}
	args = append(args,
		"fsck.mode=skip", // the journal is replayed at mount; a node is replaced, not repaired
		"console=tty0",
		"console=ttyS0,115200",
		"loglevel=6",
		"panic=10", // a node that cannot boot must not hang for ever
		// Where the host is busy, the kernel would find its own measurements of the TSC too slow,
		// and read a device for the time from then on, which makes everything slow for good.
		"tsc=nowatchdog",
		"systemd.gpt_auto=0", // fstab says all there is to mount
		"systemd.getty_auto=0",
		// The console is for the agent's lines. systemd would animate a line for as long
		// as the agent's start job runs, which is until the node is Ready.
		"systemd.show_status=error",
		"nvme_core.io_timeout=4294967295", // EBS: "Amazon EBS volumes and NVMe on Linux instances"
	)
	return strings.Join(append(args, b.config.KernelArguments...), " ")
}
