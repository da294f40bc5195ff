package image

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

//go:embed all:machine
var machineFiles embed.FS

// maskedUnits are what Debian starts and a node never needs. Each costs a part of the
// time from power-on to Ready, most of all on a machine that is emulated.
var maskedUnits = []string{
	// The package manager's timers, and checks of LVM snapshots.
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
	"e2scrub_all.timer", "e2scrub_reap.service",
	// Watching and checking arrays: a node's holds nothing that outlives the instance.
	"mdmonitor.service", "mdmonitor-oneshot.timer", "mdcheck_start.timer", "mdcheck_continue.timer",
	// Consoles, as nobody can log in.
	"getty@tty1.service", "getty-static.service",
	// Nothing waits for the network as a whole: the agent tries until it answers.
	"systemd-networkd-wait-online.service", "systemd-networkd-persistent-storage.service",
	// Set-up from credentials and the kernel's command line.
	"systemd-firstboot.service", "systemd-network-generator.service", "systemd-udev-load-credentials.service",
	// Modules and file systems that load or are mounted when something uses them.
	"modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service",
	"modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@loop.service",
	"sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "dev-mqueue.mount",
	"proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service",
	"systemd-pstore.service", "remote-fs.target",
}

// stepRoot lays out the root file system of a machine that boots on EC2.
type stepRoot struct{ *bake }

// Run lays out the root file system.
func (s *stepRoot) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	s.root = tree.Tree{Dir: filepath.Join(s.work, "root"), Epoch: s.epoch}
	s.removeAll(s.root.Dir) // of an attempt before this one
	return s.step(state, "Laying out the root file system (Debian 13)", func() error {
		err := debootstrap{
			program:    s.mmdebstrap,
			dir:        s.root.Dir,
			packages:   slices.Concat(machinePackages, s.config.ExtraPackages),
			repository: s.file(machineRepository),
			dpkg:       dpkgOptions,
			scratch:    s.work,
			epoch:      s.epoch,
		}.run(ctx)
		if err != nil {
			return fmt.Errorf("lay out the root file system: %w", err)
		}
		if err := writeMachineFiles(s.root.Dir, s.config.RootFilesystem); err != nil {
			return err
		}
		if err := s.openArchives(); err != nil {
			return err
		}
		units := []string{"systemd-networkd.service", "systemd-resolved.service", "chrony.service", "ovenbird-hostname.path", "ovenbird-prefetch.service", "ovenbird-udev-rest.service"}
		if s.config.RootFilesystem == rootVerity {
			units = append(units, "ovenbird-grow-var.service")
		}
		return s.inRoot(ctx, "set up the machine's services", strings.Join([]string{
			"systemctl --quiet enable " + strings.Join(units, " "),
			"systemctl --quiet mask " + strings.Join(maskedUnits, " "),
			// The build machine's name and resolver must not become the node's.
			"rm -f /etc/hostname",
			"ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
			"ln -sf /usr/share/zoneinfo/UTC /etc/localtime",
		}, "\n"))
	})
}

// writeMachineFiles copies the files in machine/ into the root file system, and says
// which of the disk's partitions is mounted and grown.
func writeMachineFiles(root, rootFilesystem string) error {
	fstab := fmt.Sprintf("PARTUUID=%s / ext4 defaults,noatime,x-systemd.growfs 0 0\n", strings.ToLower(rootGUID))
	grown := "root"
	if rootFilesystem == rootVerity {
		// The initrd knows which disk is this machine's, so it mounts everything.
		fstab, grown = "# The initrd mounts /, /etc, /opt and /var.\n", "var"
	}
	repart := "# At boot this partition takes what the volume has more than the image.\n[Partition]\nType=" + grown + "\n"
	for name, content := range map[string]string{"etc/fstab": fstab, "etc/repart.d/50-" + grown + ".conf": repart} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as on any system
			return fmt.Errorf("write /%s: %w", name, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // as on any system
			return fmt.Errorf("write /%s: %w", name, err)
		}
	}
	return fs.WalkDir(machineFiles, "machine", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(root, strings.TrimPrefix(name, "machine"))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755) //nolint:gosec // as on any system
		}
		content, err := machineFiles.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o644); err != nil { //nolint:gosec // as on any system
			return fmt.Errorf("write %s: %w", strings.TrimPrefix(name, "machine"), err)
		}
		return nil
	})
}

// Cleanup leaves the tree to stepWorkspace.
func (s *stepRoot) Cleanup(multistep.StateBag) {}
