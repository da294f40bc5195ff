package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

const (
	suite   = "trixie" // Debian 13
	keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// toolPackages are the programs that decide the disk's bytes. They run from a tree of
// the same Debian as the image, so that the disk does not depend on the build machine.
var toolPackages = []string{
	"cryptsetup-bin", "e2fsprogs", "erofs-utils", "faketime", "sbsigntool", "systemd-boot-efi", "systemd-ukify",
}

// machinePackages are what a machine needs to boot on EC2 and be a host for containers.
var machinePackages = []string{
	"linux-image-cloud-amd64",
	"systemd", "systemd-sysv", "systemd-resolved", "systemd-repart", "udev", "dbus",
	"iproute2", "ethtool", "netbase", "ca-certificates", "chrony",
	"nftables", "iptables", "conntrack",
	"kmod", "mount", "util-linux", "e2fsprogs", "procps",
	"busybox-static",
}

// debootstrap says how to lay out a Debian system.
type debootstrap struct {
	program  string // mmdebstrap's path
	dir      string
	packages []string
	mirrors  []string // apt source lines
	dpkg     []string
	archive  string // where .debs are kept between builds
	scratch  string // for mmdebstrap's temporary files
}

// arguments are mmdebstrap's.
func (d debootstrap) arguments() []string {
	args := []string{
		"--mode=root", "--format=directory", "--variant=apt",
		"--keyring=" + keyring,
		`--aptopt=APT::Install-Recommends "false"`,
		`--aptopt=Acquire::Retries "3"`,
		// Keep downloaded packages: they lie in the archive, not in the tree.
		"--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache",
		`--setup-hook=mkdir -p "$1/var/cache/apt/archives" && mount --bind "$OVENBIRD_ARCHIVE" "$1/var/cache/apt/archives"`,
		`--customize-hook=umount "$1/var/cache/apt/archives"`,
		// A power cut during the bake throws the tree away anyhow.
		`--dpkgopt=force-unsafe-io`,
		`--customize-hook=sed -i /force-unsafe-io/d "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"`,
		"--include=" + strings.Join(d.packages, ","),
	}
	for _, option := range d.dpkg {
		args = append(args, "--dpkgopt="+option)
	}
	args = append(args, suite, d.dir)
	return append(args, d.mirrors...)
}

// run lays the system out. Its mounts are its own; the archive is locked meanwhile.
func (d debootstrap) run(ctx context.Context) error {
	if err := os.MkdirAll(d.archive, 0o755); err != nil { //nolint:gosec // apt reads it as its own user
		return fmt.Errorf("keep packages: %w", err)
	}
	lock, err := waitForDirectory(ctx, d.archive)
	if err != nil {
		return fmt.Errorf("wait for the packages in %s: %w", d.archive, err)
	}
	defer lock.Close()
	script := `umask 022; mount --make-rprivate / && mount -t proc proc /proc && "$0" "$@" &&: ; exit $?`
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, d.program}, d.arguments()...)...)
	cmd.Env = append(tree.Environment(), "TMPDIR="+d.scratch, "OVENBIRD_ARCHIVE="+d.archive)
	cmd.Dir = "/"
	tree.Isolate(cmd)
	return run(ctx, cmd, "mmdebstrap")
}

// waitForDirectory takes a directory's lock, which another build may hold for minutes.
func waitForDirectory(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != unix.EWOULDBLOCK {
			_ = f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// sources are the apt source lines of the machine; none leaves the choice to mmdebstrap.
func (c *Config) sources() []string {
	if c.Mirror == "" {
		return nil
	}
	return []string{
		fmt.Sprintf("deb %s %s main", c.Mirror, suite),
		fmt.Sprintf("deb %s %s-updates main", c.Mirror, suite),
		fmt.Sprintf("deb %s %s-security main", c.SecurityMirror, suite),
	}
}

func (c *Config) archive() string { return filepath.Join(c.CacheDirectory, "debs", suite) }
