package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// stepDisk packs the root file system and the kernel image into disk.raw.
type stepDisk struct{ *bake }

// Run makes the disk.
func (s *stepDisk) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	l := newLayout(s.config.diskBytes)
	return s.step(state, "Packing the disk ("+s.config.DiskSize+", sparse)", func() error {
		if err := writeDisk(s.disk(), l, s.uki()); err != nil {
			return err
		}
		if err := s.inTools(ctx, "mke2fs", makeRoot(l, "/mnt/root", "/mnt/"+diskName)...); err != nil {
			return fmt.Errorf("pack the root file system (is disk_size %s enough?): %w", s.config.DiskSize, err)
		}
		return nil
	})
}

// makeRoot are mke2fs's arguments to put directory root at its place on the disk.
func makeRoot(l layout, root, disk string) []string {
	return []string{
		"-q", "-F", "-t", "ext4",
		"-L", "root", "-U", rootUUID, "-m", "1",
		// A sparse file reads as zeros: nothing is left for the first boot to write.
		"-E", "offset=" + strconv.FormatInt(l.rootStart, 10) + ",assume_storage_prezeroed=1,nodiscard,hash_seed=" + rootUUID,
		"-d", root, disk, strconv.FormatInt(l.rootSize/1024, 10) + "k",
	}
}

// writeDisk makes a sparse disk with its partition table and an ESP that boots uki.
func writeDisk(disk string, l layout, uki string) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // an image holds no secret
	if err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("make the disk: %w", closeErr)
		}
	}()
	if err := f.Truncate(l.disk); err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	storage := file.New(f, false)
	writable, err := storage.Writable()
	if err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	if err := l.table().Write(writable, l.disk); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	esp, err := fat32.Create(storage, espSize, l.espStart, sectorSize, "ESP", true)
	if err != nil {
		return fmt.Errorf("make the EFI system partition: %w", err)
	}
	if err := writeESP(esp, uki); err != nil {
		return fmt.Errorf("fill the EFI system partition: %w", err)
	}
	return nil
}

// writeESP puts the kernel image where firmware looks when nothing else is configured.
func writeESP(esp *fat32.FileSystem, uki string) error {
	source, err := os.Open(uki)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := esp.Mkdir("/EFI/BOOT"); err != nil {
		return err
	}
	target, err := esp.OpenFile("/EFI/BOOT/BOOTX64.EFI", os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	// go-diskfs walks the cluster chain again at each write: few, large writes.
	content, err := io.ReadAll(io.LimitReader(source, espSize))
	if err != nil {
		return err
	}
	if _, err := target.Write(content); err != nil {
		return err
	}
	return target.Close()
}

// Cleanup leaves the disk to stepWorkspace.
func (s *stepDisk) Cleanup(multistep.StateBag) {}
