// Package debian makes disks of what a careful person builds of Debian 13 in an afternoon:
// ext4, Debian's own initrd and boot loader, DHCP, a console on the serial port, and
// nothing tuned. Benchmarks and tests start from them; nothing of Ovenbird is on them but
// what their makers put there. It needs root, mmdebstrap and mke2fs.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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

// Machine is what a disk is made of.
type Machine struct {
	Packages []string // of Debian, besides those that every machine has
	Size     int64    // of the sparse disk, in bytes; a multiple of 1 MiB
	// Provision changes the root file system before it is packed.
	Provision func(context.Context, tree.Tree) error
}

// Make makes the machine's disk. Its root is laid out beside it for as long as that takes.
func (m Machine) Make(ctx context.Context, disk string) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(disk), "debian-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root := tree.Tree{Dir: filepath.Join(dir, "root")}
	if err := run(ctx, "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
		"--include="+strings.Join(slices.Concat(packages, m.Packages), ","), "trixie", root.Dir); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root.Dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // as on any system
			return err
		}
	}
	enable := root.Command(ctx, nil, "systemctl", "enable", "systemd-networkd.service", "systemd-resolved.service")
	if out, err := enable.CombinedOutput(); err != nil {
		return fmt.Errorf("enable the network: %w: %s", err, out)
	}
	if err := m.Provision(ctx, root); err != nil {
		return err
	}
	if err := m.writeDisk(disk, root.Dir); err != nil {
		return fmt.Errorf("make %s: %w", disk, err)
	}
	return run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-E", "offset="+strconv.Itoa(rootStart),
		"-d", root.Dir, disk, strconv.FormatInt(m.rootSize()/1024, 10)+"k")
}

// run runs a program of the machine that builds.
func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("%s: %w: %s", name, err, bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
	}
	return nil
}
