package debian

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	mib       = 1 << 20
	espStart  = mib
	espSize   = 256 * mib
	rootStart = espStart + espSize
	rootGUID  = "0c9f6a52-6f5b-4d0e-a1f4-6d5f2b7c8e11"
	espGUID   = "0c9f6a52-6f5b-4d0e-a1f4-6d5f2b7c8e12"
	// QEMU 7.2's software emulation now and then runs a piece of the kernel that the kernel has just
	// changed ("Oops: int3"). Debian would then stand still for ever; so it starts again.
	entry = "title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions root=PARTUUID=" + rootGUID + " rw console=ttyS0,115200 oops=panic panic=10\n"
)

// rootSize is what the partition table's copy at the end leaves.
func (m Machine) rootSize() int64 { return m.Size - rootStart - mib }

// writeDisk makes a disk with a partition table, Debian's boot loader, kernel and initrd.
func (m Machine) writeDisk(disk, root string) error {
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(m.Size); err != nil {
		return err
	}
	storage := file.New(f, false)
	writable, err := storage.Writable()
	if err != nil {
		return err
	}
	table := &gpt.Table{ProtectiveMBR: true, LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*gpt.Partition{
		{Index: 1, Start: espStart / 512, End: (espStart+espSize)/512 - 1, Size: espSize, Type: gpt.EFISystemPartition, Name: "esp", GUID: espGUID},
		{Index: 2, Start: rootStart / 512, End: uint64(rootStart+m.rootSize())/512 - 1, Size: uint64(m.rootSize()), Type: gpt.LinuxFilesystem, Name: "root", GUID: rootGUID},
	}}
	if err := table.Write(writable, m.Size); err != nil {
		return err
	}
	esp, err := fat32.Create(storage, espSize, espStart, 512, "ESP", true)
	if err != nil {
		return err
	}
	return writeESP(esp, root)
}

func writeESP(esp *fat32.FileSystem, root string) error {
	for _, dir := range []string{"/EFI/BOOT", "/loader/entries"} {
		if err := esp.Mkdir(dir); err != nil {
			return err
		}
	}
	write := func(name string, content []byte) error {
		target, err := esp.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := target.Write(content); err != nil {
			return err
		}
		return target.Close()
	}
	if err := write("/loader/entries/debian.conf", []byte(entry)); err != nil {
		return err
	}
	for name, pattern := range map[string]string{
		"/EFI/BOOT/BOOTX64.EFI": "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
		"/vmlinuz":              "boot/vmlinuz-*",
		"/initrd.img":           "boot/initrd.img-*",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("want one %s in the root, there are %d", pattern, len(found))
		}
		content, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		if err := write(name, content); err != nil {
			return err
		}
	}
	return nil
}
