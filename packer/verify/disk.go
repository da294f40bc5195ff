package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ovenbird-dev/ovenbird/packer/erofs"
	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

const (
	sectorSize = 512
	fetchAgain = "fetch the disk again; if it comes from a bake of yours, bake again"
	bootFile   = "/EFI/BOOT/BOOTX64.EFI" // what firmware starts when nothing else is configured
	maxKernel  = 512 << 20
)

// checkDisk compares the whole disk with the provenance.
func (v *verification) checkDisk(ctx context.Context) (string, error) {
	want := v.statement.SHA256(diskName)
	if want == "" {
		return "", skip("no provenance vouches for the whole disk")
	}
	hash := sha256.New()
	source := io.NewSectionReader(v.disk, 0, v.size)
	if _, err := io.CopyBuffer(hash, reader{ctx, source}, make([]byte, 1<<20)); err != nil {
		return "", fmt.Errorf("read the disk: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return "", fault{fmt.Sprintf("it was changed after the bake: its SHA-256 is %s, and the provenance says %s", got, want), fetchAgain}
	}
	return fmt.Sprintf("%d MiB, SHA-256 as the provenance says", v.size>>20), nil
}

// part is a partition; offsets in bytes.
type part struct{ start, size int64 }

// diskLayout is where the parts of a disk lie. A disk with an ext4 root has no hashes.
type diskLayout struct{ esp, root, hashes part }

func (v *verification) storage() backend.Storage { return file.New(v.disk, true) }

// checkPartitions reads the partition table, whose checksums have to be right.
func (v *verification) checkPartitions(context.Context) (string, error) {
	table, err := gpt.Read(v.storage(), sectorSize, sectorSize)
	if err != nil {
		return "", fault{fmt.Sprintf("there is no partition table (GPT): %v", err), "give the command a disk.raw that ovenbird-image has baked"}
	}
	if table.RecoveredFromBackup {
		return "", fault{"the partition table is damaged; only its copy at the end of the disk is whole", fetchAgain}
	}
	parts := map[string]part{}
	var names []string
	end := int64(0)
	for _, p := range table.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		at := part{start: int64(p.Start) * sectorSize, size: int64(p.End-p.Start+1) * sectorSize} //nolint:gosec // compared with the disk's size below
		if at.start < end || at.size <= 0 || at.start > 1<<50 || at.size > 1<<50 {
			return "", fault{fmt.Sprintf("partition %s overlaps the one before it", p.Name), fetchAgain}
		}
		end = at.start + at.size
		names, parts[p.Name] = append(names, p.Name), at
	}
	if end > v.size {
		return "", fault{fmt.Sprintf("the disk is cut short: it ends at byte %d, and its partitions at %d", v.size, end), "fetch the disk again, whole"}
	}
	if err := table.Verify(v.storage(), uint64(v.size)); err != nil { //nolint:gosec // a file's size
		return "", fault{fmt.Sprintf("the copy of the partition table at the end of the disk is not right: %v", err), "fetch the disk again, whole"}
	}
	switch strings.Join(names, " ") {
	case strings.Join([]string{"esp", disk.Root, disk.RootVerity, disk.Var}, " "):
		v.layout = &diskLayout{esp: parts["esp"], root: parts[disk.Root], hashes: parts[disk.RootVerity]}
	case "esp root":
		v.layout = &diskLayout{esp: parts["esp"], root: parts["root"]}
	default:
		return "", fault{fmt.Sprintf("the disk is not one of ovenbird-image: its partitions are %q", names), "give the command a disk.raw that ovenbird-image has baked"}
	}
	return strings.Join(names, ", "), nil
}

// kernel is what the unified kernel image says.
type kernel struct{ commandLine string }

// argument lists the values of a kernel argument.
func (k kernel) argument(key string) []string {
	var values []string
	for word := range strings.FieldsSeq(k.commandLine) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			values = append(values, v)
		}
	}
	return values
}

// rootHash is what the initrd holds the root against. A second one would leave open which.
func (k kernel) rootHash() ([]byte, error) {
	values := k.argument("roothash")
	if len(values) != 1 {
		return nil, fmt.Errorf("it has %d root hashes, want one", len(values))
	}
	hash, err := hex.DecodeString(values[0])
	if err != nil || len(hash) != sha256.Size {
		return nil, fmt.Errorf("roothash=%s is no SHA-256", values[0])
	}
	return hash, nil
}

// checkKernel reads the command line out of the unified kernel image.
func (v *verification) checkKernel(context.Context) (string, error) {
	if v.layout == nil {
		return "", skip("there is no partition that it could be in")
	}
	esp, err := fat32.Read(v.storage(), v.layout.esp.size, v.layout.esp.start, sectorSize)
	if err != nil {
		return "", fault{fmt.Sprintf("the EFI system partition cannot be read: %v", err), fetchAgain}
	}
	f, err := esp.OpenFile(bootFile, os.O_RDONLY)
	if err != nil {
		return "", fault{fmt.Sprintf("the EFI system partition has no %s: %v", bootFile, err), fetchAgain}
	}
	defer f.Close()
	image, err := io.ReadAll(io.LimitReader(f, maxKernel))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", bootFile, err)
	}
	program, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return "", fault{fmt.Sprintf("%s is not a unified kernel image: %v", bootFile, err), fetchAgain}
	}
	section := program.Section(".cmdline")
	if section == nil || program.Section(".linux") == nil {
		return "", fault{bootFile + " is not a unified kernel image: it has no kernel or no command line", fetchAgain}
	}
	line, err := section.Data()
	if err != nil {
		return "", fmt.Errorf("read the kernel's command line: %w", err)
	}
	v.kernel = &kernel{commandLine: strings.TrimSpace(strings.TrimRight(string(line[:min(int(section.VirtualSize), len(line))]), "\x00"))}
	if v.layout.hashes.size == 0 {
		return "boots with root=" + strings.Join(v.kernel.argument("root"), " root="), nil
	}
	hash, err := v.kernel.rootHash()
	if err != nil {
		return "", fault{fmt.Sprintf("the kernel's command line does not say which root is right: %v", err), fetchAgain}
	}
	return "boots with roothash=" + hex.EncodeToString(hash), nil
}

// checkRoot recomputes the hashes of the root file system, and opens it.
func (v *verification) checkRoot(ctx context.Context) (string, error) {
	if v.layout == nil || v.kernel == nil {
		return "", skip("there is no kernel image that says what it must be")
	}
	if v.layout.hashes.size == 0 {
		return "", v.openExt4()
	}
	data := io.NewSectionReader(v.disk, v.layout.root.start, v.layout.root.size)
	hashes := io.NewSectionReader(v.disk, v.layout.hashes.start, v.layout.hashes.size)
	rootHash, err := v.kernel.rootHash()
	if err != nil {
		return "", skip("the kernel's command line does not say which root is right")
	}
	blocks, err := checkVerity(ctx, data, hashes, rootHash)
	if err != nil {
		var found fault
		if errors.As(err, &found) {
			return "", found
		}
		return "", fmt.Errorf("recompute its hashes: %w", err)
	}
	root, err := erofs.Open(data)
	if err != nil {
		return "", fault{fmt.Sprintf("it has the right hashes, but it cannot be read: %v", err), "use the ovenbird-image that baked it"}
	}
	v.root = root
	return fmt.Sprintf("%d blocks hash to the root hash", blocks), nil
}

// openExt4 makes a root that nodes write readable for the other checks.
func (v *verification) openExt4() error {
	root, err := ext4.Read(v.storage(), v.layout.root.size, v.layout.root.start, sectorSize)
	if err != nil {
		return fault{fmt.Sprintf("the ext4 root cannot be read: %v", err), fetchAgain}
	}
	v.root = root
	return skip("it is ext4, which nodes write and no hash protects: only the SHA-256 of the whole disk vouches for it")
}
