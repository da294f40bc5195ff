package image

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

const (
	suite        = "trixie" // Debian 13
	architecture = "amd64"
	keyring      = "/usr/share/keyrings/debian-archive-keyring.gpg"
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
	"kmod", "mount", "util-linux", "e2fsprogs", "mdadm", "procps",
	"busybox-static",
}

// debootstrap says how to lay out a Debian system.
type debootstrap struct {
	program    string // mmdebstrap's path
	dir        string
	packages   []string
	repository string // a directory with exactly the packages that may be used
	dpkg       []string
	scratch    string // for mmdebstrap's temporary files
	epoch      time.Time
}

// arguments are mmdebstrap's.
func (d debootstrap) arguments() []string {
	args := []string{
		"--mode=root", "--format=directory", "--variant=apt",
		`--aptopt=APT::Install-Recommends "false"`,
		`--aptopt=Acquire::Retries "3"`,
		// apt's own user may not reach the work directory, and who owns what must not
		// depend on that.
		`--aptopt=APT::Sandbox::User "root"`,
		`--customize-hook=sed -i /APT::Sandbox::User/d "$1/etc/apt/apt.conf.d/99mmdebstrap"`,
		// A power cut during the bake throws the tree away anyhow.
		`--dpkgopt=force-unsafe-io`,
		`--customize-hook=sed -i /force-unsafe-io/d "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"`,
		"--include=" + strings.Join(d.packages, ","),
	}
	for _, option := range d.dpkg {
		args = append(args, "--dpkgopt="+option)
	}
	return append(args, suite, d.dir, flatSource(d.repository))
}

// flatSource is the apt source line of a directory that debian.WriteRepository has made.
func flatSource(dir string) string {
	return "deb [trusted=yes] copy:" + (&url.URL{Path: dir}).EscapedPath() + " ./"
}

// run lays the system out. Its mounts are its own.
func (d debootstrap) run(ctx context.Context) error {
	script := `umask 022; mount --make-rprivate / && mount -t proc proc /proc && "$0" "$@" &&: ; exit $?`
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, d.program}, d.arguments()...)...)
	cmd.Env = append(tree.Environment(d.epoch), "TMPDIR="+d.scratch)
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

// Debian's own archives, which a node names whatever the image was made from.
const (
	debianArchive   = "http://deb.debian.org/debian"
	securityArchive = "http://security.debian.org/debian-security"
)

// archives are where packages come from.
func (c *Config) archives() debian.Archives {
	if c.Mirror == "" {
		return debian.Archives{debian.Main: debianArchive, debian.Security: securityArchive}
	}
	return debian.Archives{debian.Main: c.Mirror, debian.Security: c.SecurityMirror}
}

// sources are the apt source lines of the machine, for archives.
func sources(archives debian.Archives) []string {
	line := func(archive, suite string) string {
		return fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, archives[archive], suite)
	}
	return []string{
		line(debian.Main, suite), line(debian.Main, suite+"-updates"), line(debian.Security, suite+"-security"),
	}
}

func (c *Config) store() debian.Store {
	return debian.Store{Dir: filepath.Join(c.CacheDirectory, "debs")}
}
