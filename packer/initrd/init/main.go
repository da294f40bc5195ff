// Command init is the whole initrd of a node with a verified root. It waits for the
// disk, has the kernel check every block of the root against the root hash that the
// command line carries, mounts the data partition at /var, makes /etc and /opt writable
// and hands over to systemd. It reads nothing but the disk and makes no decision that the
// signed command line has not made, but for one: of several disks of one image, the firmware
// tells which is this node's.
//
// Whatever goes wrong is a line on the console, and then a kernel panic: the command
// line says how long until the machine starts again.
package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

// diskTimeout is how long the disk may take to show up. An EBS volume is there before
// the instance starts.
const diskTimeout = 60 * time.Second

const (
	newRoot = "/sysroot"
	systemd = "/usr/lib/systemd/systemd"
)

func main() {
	if err := boot(); err != nil {
		say("<2>", "cannot boot: "+err.Error())
		os.Exit(1) // the end of process 1 is a kernel panic
	}
}

// say writes a line to the kernel's log, which reaches the console and the journal.
func say(level, line string) {
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		println("ovenbird-init: " + line)
		return
	}
	_, _ = log.WriteString(level + "ovenbird-init: " + line + "\n")
	_ = log.Close()
}

func boot() error {
	if err := mountKernel(); err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	commandLine, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	rootHash, err := rootHash(string(commandLine))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), diskTimeout)
	defer cancel()
	parts, err := awaitNode(ctx, blockDevices, choice{
		is:      func(n node) bool { return vouchedFor(n[disk.RootVerity].path(), rootHash) },
		started: started(),
	})
	if err != nil {
		return err
	}
	root, err := openVerity(parts[disk.Root], parts[disk.RootVerity], rootHash)
	if err != nil {
		return err
	}
	if err := mountRoot(root, parts[disk.Var].path()); err != nil {
		return err
	}
	say("<6>", "root "+rootHash+" is verified as it is read")
	return handOver()
}

// mount is mount(2) with an error that says what failed.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return errors.New("mount " + source + " at " + target + " (" + kind + "): " + err.Error())
	}
	return nil
}

// mountKernel mounts what the kernel shows of itself, with systemd's own options.
func mountKernel() error {
	const plain = unix.MS_NOSUID | unix.MS_NODEV
	return errors.Join(
		mount("devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"),
		mount("proc", "/proc", "proc", plain|unix.MS_NOEXEC, ""),
		mount("sysfs", "/sys", "sysfs", plain|unix.MS_NOEXEC, ""),
		mount("tmpfs", "/run", "tmpfs", plain, "mode=0755,size=20%,nr_inodes=800k"),
	)
}

// loadModules loads every module in dir, in the order of their names.
func loadModules(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		module, err := os.Open(filepath.Join(dir, file.Name()))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(module.Fd()), "", 0)
		_ = module.Close()
		// A module for a processor that this one is not is not needed.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return errors.New("load kernel module " + file.Name() + ": " + err.Error())
		}
	}
	return nil
}

// rootHash finds the root hash on the kernel's command line, as the Discoverable Disk
// Image specification names it.
func rootHash(commandLine string) (string, error) {
	for word := range strings.FieldsSeq(commandLine) {
		if hash, ok := strings.CutPrefix(word, "roothash="); ok {
			return hash, nil
		}
	}
	return "", errors.New("the command line has no roothash=")
}

// mountRoot puts the file systems of the node together under newRoot.
func mountRoot(root, data string) error {
	if err := mount(root, newRoot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := mount(data, newRoot+"/var", "ext4", unix.MS_NOATIME, ""); err != nil {
		return err
	}
	// /etc is rendered anew at each boot. Its store is none of the agent's files, which people
	// remove to make that start anew. Into /opt, DaemonSets install programs that have to be
	// there at the next boot too.
	if err := overlay(newRoot+"/etc", "/run/overlay/etc"); err != nil {
		return err
	}
	if err := overlay(newRoot+"/opt", newRoot+"/var/lib/ovenbird/opt"); err != nil {
		return err
	}
	id, err := machineID(newRoot + "/var/lib/ovenbird")
	if err != nil {
		return errors.New("keep the machine id: " + err.Error())
	}
	return os.WriteFile(newRoot+"/etc/machine-id", []byte(id), 0o444)
}

// overlay makes directory dir writable: what is written to it lies in store.
func overlay(dir, store string) error {
	upper, work := store+"/upper", store+"/work"
	for _, made := range []string{store, upper, work} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			return err
		}
	}
	// Nobody has to see the parts.
	if err := os.Chmod(store, 0o700); err != nil {
		return err
	}
	return mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work)
}

// handOver leaves the initrd for the new root and becomes systemd.
func handOver() error {
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	// The initrd stays in memory for as long as it has files.
	_ = os.RemoveAll("/modules")
	_ = os.Remove("/init")
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	err := unix.Exec(systemd, append([]string{systemd}, os.Args[1:]...), os.Environ())
	return errors.New("run " + systemd + ": " + err.Error())
}
