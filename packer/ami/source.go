package ami

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/ami/blocks"
	"github.com/ovenbird-dev/ovenbird/packer/image"
)

// diskPath is the file of the artifact that is the disk.
func diskPath(artifact packersdk.Artifact, named string) (string, error) {
	files := artifact.Files()
	var fitting []string
	for _, file := range files {
		switch {
		case named != "" && filepath.Base(file) == named:
			return file, nil
		case named == "" && (len(files) == 1 || strings.HasSuffix(file, ".raw") || strings.HasSuffix(file, ".img")):
			fitting = append(fitting, file)
		}
	}
	switch {
	case named == "" && artifact.BuilderId() == image.BuilderID && len(files) > 0:
		return files[0], nil
	case len(fitting) == 1:
		return fitting[0], nil
	case len(files) == 0:
		return "", fmt.Errorf("the artifact (%s) has no files: ovenbird-ami needs a builder that leaves a raw disk on this machine", artifact)
	case named != "":
		return "", fmt.Errorf("disk: the artifact has no file %s; it has %s", named, strings.Join(files, ", "))
	}
	return "", fmt.Errorf("disk: must be set, as it is not clear which of the artifact's files is the disk: %s", strings.Join(files, ", "))
}

// openDisk opens a disk and checks that a machine could boot from it.
func openDisk(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the disk: %w", err)
	}
	if err := checkDisk(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s cannot be the disk of an AMI: %w", path, err)
	}
	return f, nil
}

// Formats that people give for raw ones, by what their files start with.
var otherFormats = map[string]string{
	"QFI\xfb": "qcow2", "KDMV": "VMDK", "# Disk Descrip": "VMDK", "conectix": "VHD", "vhdxfile": "VHDX", "\x1f\x8b": "gzip", "\x28\xb5\x2f\xfd": "zstd",
}

func checkDisk(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const sector = 512
	head := make([]byte, 2*sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("it is shorter than a partition table (%d bytes)", info.Size())
	}
	for start, format := range otherFormats {
		if strings.HasPrefix(string(head), start) {
			return fmt.Errorf("it is in the format %s; convert it to a raw disk, for example with qemu-img convert -O raw", format)
		}
	}
	switch {
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case info.Size()%sector != 0:
		return fmt.Errorf("its %d bytes are not whole sectors of 512: is it raw and complete?", info.Size())
	case info.Size() > blocks.MaxDiskSize:
		return fmt.Errorf("its %d bytes are more than the 64 TiB of a volume", info.Size())
	}
	// The header of the GUID partition table: UEFI specification 2.10, 5.3.2.
	header := head[sector:]
	length := binary.LittleEndian.Uint32(header[12:])
	if string(header[:8]) != "EFI PART" || length < 92 || length > sector {
		return errors.New("it has no GUID partition table, without which UEFI does not boot from it")
	}
	sum := binary.LittleEndian.Uint32(header[16:])
	clear(header[16:20])
	if crc32.ChecksumIEEE(header[:length]) != sum {
		return errors.New("the checksum of its GUID partition table is wrong: is the file damaged?")
	}
	if last := binary.LittleEndian.Uint64(header[48:]); last >= uint64(info.Size()/sector) {
		return fmt.Errorf("its partition table speaks of sector %d, and it has %d: is the file complete?", last, info.Size()/sector)
	}
	return nil
}

// facts are what the artifact tells about itself, for the template's variables.
func facts(artifact packersdk.Artifact) map[string]any {
	values := map[string]any{}
	switch generated := artifact.State("generated_data").(type) {
	case map[string]any:
		for key, value := range generated {
			values[key] = value
		}
	case map[any]any: // as it comes over Packer's RPC
		for key, value := range generated {
			values[fmt.Sprint(key)] = value
		}
	}
	for variable, state := range map[string]string{"KubernetesVersion": "kubernetes_version", "Kernel": "kernel"} {
		if value, ok := artifact.State(state).(string); ok {
			values[variable] = value
		}
	}
	return values
}
