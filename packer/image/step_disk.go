package image

import (
	"context"
	"errors"
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
	return s.step(state, "Packing the disk ("+s.config.DiskSize+", sparse)", func() error {
		l, err := s.layout()
		if err != nil {
			return err
		}
		// go-diskfs dates the ESP's files by it.
		if err := os.Setenv("SOURCE_DATE_EPOCH", strconv.FormatInt(s.epoch.Unix(), 10)); err != nil {
			return err
		}
		if err := writeDisk(s.disk(), l, s.file(ukiFile)); err != nil {
			return err
		}
		writable, directory, uuid, label := l.root, "root", rootUUID, "root"
		if s.config.RootFilesystem == rootVerity {
			if err := s.placeRoot(l); err != nil {
				return err
			}
			writable, directory, uuid, label = l.data, "root/var", varUUID, "var"
		}
		if err := settleTimes(s.file(directory), s.epoch); err != nil {
			return err
		}
		args := makeExt4(writable, label, uuid, toolsWork+"/"+directory, toolsWork+"/"+diskName)
		if err := s.inTools(ctx, "mke2fs", args...); err != nil {
			return fmt.Errorf("fill the %s partition (is disk_size %s enough?): %w", writable.name, s.config.DiskSize, err)
		}
		return nil
	})
}

func (s *stepDisk) layout() (layout, error) {
	if s.config.RootFilesystem == rootExt4 {
		return ext4Layout(s.config.diskBytes), nil
	}
	var sizes [2]int64
	for i, name := range []string{rootFile, verityFile} {
		info, err := os.Stat(s.file(name))
		if err != nil {
			return layout{}, fmt.Errorf("lay the disk out: %w", err)
		}
		sizes[i] = info.Size()
	}
	return verityLayout(s.config.diskBytes, sizes[0], sizes[1])
}

// placeRoot copies the root and its hashes into their partitions.
func (s *stepDisk) placeRoot(l layout) error {
	disk, err := os.OpenFile(s.disk(), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("fill the root partition: %w", err)
	}
	return errors.Join(
		place(disk, l.root, s.file(rootFile)),
		place(disk, l.verity, s.file(verityFile)),
		disk.Close(),
	)
}

func place(disk *os.File, p partition, file string) error {
	source, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("fill the %s partition: %w", p.name, err)
	}
	defer source.Close()
	if _, err := io.Copy(io.NewOffsetWriter(disk, p.start), source); err != nil {
		return fmt.Errorf("fill the %s partition: %w", p.name, err)
	}
	return nil
}

// makeExt4 are mke2fs's arguments to put a directory at a partition's place on the disk.
func makeExt4(p partition, label, uuid, directory, disk string) []string {
	return []string{
		"-q", "-F", "-t", "ext4",
		"-L", label, "-U", uuid, "-m", "1",
		// The orphan file is 32 MiB that each mount reads; the list it replaces is as safe.
		"-O", "^orphan_file",
		// Metadata in one place, and not at the head of each 128 MiB, is fetched at once.
		// A sparse file reads as zeros: nothing is left for the first boot to write.
		"-E", "offset=" + strconv.FormatInt(p.start, 10) + ",packed_meta_blocks=1,assume_storage_prezeroed=1,nodiscard,hash_seed=" + uuid,
		"-d", directory, disk, strconv.FormatInt(p.size/1024, 10) + "k",
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
	esp, err := fat32.Create(storage, l.esp.size, l.esp.start, sectorSize, "ESP", true)
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
