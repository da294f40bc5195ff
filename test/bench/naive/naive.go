// Package naive makes the image that Ovenbird's is measured against: what a careful person
// builds of Debian in an afternoon. It is ext4, with Debian's own initrd and boot loader
// and nothing tuned, and it has the same agent, components and container images.
package naive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/node"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// packages make Debian's smallest system a machine that boots and has a network.
var packages = []string{
	"linux-image-cloud-amd64", "initramfs-tools", "systemd-boot-efi",
	"systemd-sysv", "systemd-resolved", "udev", "dbus", "iproute2", "netbase", "ca-certificates",
}

// files are the machine's own configuration.
var files = map[string]string{
	"etc/fstab":                           "PARTUUID=" + rootGUID + " / ext4 defaults 0 1\n",
	"etc/systemd/network/80-dhcp.network": "[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=ipv4\n",
}

const (
	mib      = 1 << 20
	size     = 6 << 10 * mib
	espStart = mib
	espSize  = 256 * mib
	root     = espStart + espSize
	rootSize = size - root - mib
	rootGUID = "0c9f6a52-6f5b-4d0e-a1f4-6d5f2b7c8e11"
	espGUID  = "0c9f6a52-6f5b-4d0e-a1f4-6d5f2b7c8e12"
	entry    = "title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions root=PARTUUID=" + rootGUID + " rw console=ttyS0,115200\n"
)

// Make makes the disk naive.raw in dir, of the node that options describe as a template's
// ovenbird-node provisioner does. It needs root, mmdebstrap and mke2fs.
func Make(ctx context.Context, dir string, options map[string]any) (disk string, err error) {
	machine := tree.Tree{Dir: filepath.Join(dir, "root")}
	if err := run(ctx, "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
		"--include="+strings.Join(packages, ","), "trixie", machine.Dir); err != nil {
		return "", err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(machine.Dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // as on any system
			return "", err
		}
	}
	enable := machine.Command(ctx, nil, "systemctl", "enable", "systemd-networkd.service", "systemd-resolved.service")
	if out, err := enable.CombinedOutput(); err != nil {
		return "", fmt.Errorf("enable the network: %w: %s", err, out)
	}
	if err := provision(ctx, machine, options); err != nil {
		return "", err
	}
	disk = filepath.Join(dir, "naive.raw")
	if err := writeDisk(disk, machine.Dir); err != nil {
		return "", fmt.Errorf("make %s: %w", disk, err)
	}
	return disk, run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset="+strconv.Itoa(root),
		"-d", machine.Dir, disk, strconv.Itoa(rootSize/1024)+"k")
}

// provision makes the machine a node, as every Ovenbird node is made.
func provision(ctx context.Context, machine tree.Tree, options map[string]any) error {
	var provisioner node.Provisioner
	if err := provisioner.Prepare(options); err != nil {
		return err
	}
	comm := tree.NewCommunicator(ctx, machine)
	defer comm.Close()
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: os.Stderr, ErrorWriter: os.Stderr}
	return provisioner.Provision(ctx, ui, comm, nil)
}

// writeDisk makes a disk with a partition table, Debian's boot loader, kernel and initrd.
func writeDisk(disk, machine string) error {
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	storage := file.New(f, false)
	writable, err := storage.Writable()
	if err != nil {
		return err
	}
	table := &gpt.Table{ProtectiveMBR: true, LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*gpt.Partition{
		{Index: 1, Start: espStart / 512, End: (espStart+espSize)/512 - 1, Size: espSize, Type: gpt.EFISystemPartition, Name: "esp", GUID: espGUID},
		{Index: 2, Start: root / 512, End: (root+rootSize)/512 - 1, Size: rootSize, Type: gpt.LinuxFilesystem, Name: "root", GUID: rootGUID},
	}}
	if err := table.Write(writable, size); err != nil {
		return err
	}
	esp, err := fat32.Create(storage, espSize, espStart, 512, "ESP", true)
	if err != nil {
		return err
	}
	return writeESP(esp, machine)
}

func writeESP(esp *fat32.FileSystem, machine string) error {
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
		found, err := filepath.Glob(filepath.Join(machine, pattern))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("want one %s in the machine, there are %d", pattern, len(found))
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

// run runs a program of the machine that bakes.
func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("%s: %w: %s", name, err, bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
	}
	return nil
}
