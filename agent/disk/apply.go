package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	// Not Amazon's XFS: /var has ext4 already, so that the kernel and mkfs.ext4 are
	// there, and a large array takes no longer, as the kernel makes the inode tables later.
	ext4   = "ext4"
	member = "linux_raid_member" // what wipefs calls a drive of an array
)

// Apply makes the machine what p says, and returns the mount points that it has then. Each
// step looks first what is there, so that it can be cut off anywhere and come again, after a
// reboot too. It destroys nothing: a drive with another's data is an error. What a failure
// leaves works: a directory is either the root volume's or the array's with all that the
// root volume's had. tell is told of each step.
//
// It must not run beside kubelet or containerd, whose directories it moves.
func (p Plan) Apply(ctx context.Context, root rootfs.Root, machine Machine, tell func(step string)) ([]string, error) {
	a := applier{root, machine, tell}
	var array string
	if p.Array != nil {
		var err error
		if array, err = a.array(ctx, *p.Array); err != nil {
			return nil, err
		}
	}
	var mounted []string
	for _, wanted := range p.FileSystems {
		device := wanted.Device
		if p.Array != nil && device == p.Array.Device {
			device = array
		}
		if err := a.fileSystem(ctx, device, wanted.MountPoint); err != nil {
			return mounted, err
		}
		mounted = append(mounted, wanted.MountPoint)
	}
	// All that can fail for want of space or time comes before the first directory moves.
	for _, bind := range p.Binds {
		if err := a.carry(ctx, bind); err != nil {
			return mounted, err
		}
	}
	for _, bind := range p.Binds {
		if err := a.mount(bind.Source, bind.Target, "", unix.MS_BIND); err != nil {
			return mounted, err
		}
		mounted = append(mounted, bind.Target)
	}
	return mounted, nil
}

type applier struct {
	root    rootfs.Root
	machine Machine
	tell    func(string)
}

// array returns the device of an array that runs: the one of these members, or a new one.
func (a applier) array(ctx context.Context, array Array) (string, error) {
	if device, err := a.running(array); device != "" || err != nil {
		return device, err
	}
	blank := 0
	for _, drive := range array.Members {
		holds, err := a.holds(ctx, drive)
		switch {
		case err != nil:
			return "", err
		case holds == "":
			blank++
		case holds != member:
			return "", occupied(drive, holds)
		}
	}
	var failed error
	if blank < len(array.Members) {
		a.tell("assemble the array")
		_, failed = a.machine.Run(ctx, "mdadm", append([]string{"--assemble", "--run", array.Device}, array.Members...)...)
		if failed != nil && blank == 0 {
			return "", failed // it may hold data
		}
	}
	if blank == len(array.Members) || failed != nil {
		// None that lacks a member has ever run, unless it was mirrored: then it has been assembled.
		a.tell("create the array")
		args := []string{
			"--create", array.Device, "--run", "--force", "--name=" + array.Name, "--homehost=any",
			"--level=" + strconv.Itoa(array.Level), "--raid-devices=" + strconv.Itoa(len(array.Members)),
		}
		if _, err := a.machine.Run(ctx, "mdadm", append(args, array.Members...)...); err != nil {
			return "", err
		}
	}
	device, err := a.running(array)
	if err == nil && device == "" {
		err = fmt.Errorf("mdadm has made no array of %s", strings.Join(array.Members, ", "))
	}
	return device, err
}

// running returns the array that the members are in, by the kernel's name, which is there
// before udev has made another.
func (a applier) running(array Array) (string, error) {
	var found string
	for i, drive := range array.Members {
		holders, err := os.ReadDir(a.root.Join("/sys/block/" + path.Base(drive) + "/holders"))
		if err != nil {
			return "", fmt.Errorf("see what drive %s is part of: %w", drive, err)
		}
		device := ""
		if len(holders) > 0 {
			device = "/dev/" + holders[0].Name()
		}
		if i == 0 {
			found = device
		}
		if device != found {
			return "", fmt.Errorf("the drives are not in one array: %s is in %q, %s in %q: see /proc/mdstat", array.Members[0], found, drive, device)
		}
	}
	if found == "" {
		return "", nil
	}
	level, err := os.ReadFile(a.root.Join("/sys/block/" + path.Base(found) + "/md/level"))
	if err != nil {
		return "", fmt.Errorf("read the level of array %s: %w", found, err)
	}
	if got, want := strings.TrimSpace(string(level)), "raid"+strconv.Itoa(array.Level); got != want {
		return "", fmt.Errorf("array %s is %s, not %s: an array stays what it is until the instance is stopped", found, got, want)
	}
	return found, nil
}

// holds returns what signature a device has, "" when it is blank.
func (a applier) holds(ctx context.Context, device string) (string, error) {
	output, err := a.machine.Run(ctx, "wipefs", "--noheadings", "--output", "TYPE", device)
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(output), " "), nil
}

func occupied(device, holds string) error {
	return fmt.Errorf("%s holds %s, which is left alone: `wipefs --all %s` destroys it", device, holds, device)
}

// fileSystem formats device when it is blank, and mounts it.
func (a applier) fileSystem(ctx context.Context, device, mountPoint string) error {
	if mounted, err := a.mounted(mountPoint); mounted || err != nil {
		return err
	}
	holds, err := a.holds(ctx, device)
	if err != nil {
		return err
	}
	switch holds {
	case ext4:
	case "":
		a.tell("format " + device)
		// The drives come trimmed. Nothing is kept back for root: pods end at kubelet's limit.
		// The superblock is the last that is written, so one cut off is blank.
		if _, err := a.machine.Run(ctx, "mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", device); err != nil {
			return err
		}
	default:
		return occupied(device, holds)
	}
	a.tell("mount " + device)
	return a.mount(device, mountPoint, ext4, unix.MS_NOATIME)
}

// carry makes the directory of the array that takes another's place, with all that the
// other has. That its name is there says that it is complete.
func (a applier) carry(ctx context.Context, bind Bind) error {
	source, target := a.root.Join(bind.Source), a.root.Join(bind.Target)
	if _, err := os.Stat(source); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.tell("carry " + bind.Target + " over")
	if err := os.MkdirAll(target, 0o755); err != nil { //nolint:gosec // as kubelet and containerd make them
		return err
	}
	partial := source + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if _, err := a.machine.Run(ctx, "cp", "-a", "--one-file-system", "--", target, partial); err != nil {
		return err
	}
	directory, err := os.Open(partial)
	if err != nil {
		return err
	}
	defer directory.Close()
	if err := unix.Syncfs(int(directory.Fd())); err != nil { //nolint:gosec // a file descriptor
		return fmt.Errorf("sync the file system of %s: %w", partial, err)
	}
	return os.Rename(partial, source)
}

// mount mounts at a directory, which it makes, unless that is mounted already.
func (a applier) mount(source, target, fileSystem string, flags uintptr) error {
	if mounted, err := a.mounted(target); mounted || err != nil {
		return err
	}
	if err := a.makeDirectory(target); err != nil {
		return err
	}
	if flags&unix.MS_BIND != 0 {
		source = a.root.Join(source)
	}
	return a.machine.Mount(source, a.root.Join(target), fileSystem, flags)
}

// makeDirectory makes a mount point. The root of a verified image cannot be written: there
// the empty /mnt gets a file system in memory, which holds nothing but mount points.
func (a applier) makeDirectory(dir string) error {
	err := os.MkdirAll(a.root.Join(dir), 0o755) //nolint:gosec // as on any system
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	if !strings.HasPrefix(dir, "/mnt/") {
		return fmt.Errorf("%w: use a mountPath in /mnt or /var", err)
	}
	if err := a.machine.Mount("tmpfs", a.root.Join("/mnt"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV); err != nil {
		return err
	}
	return os.MkdirAll(a.root.Join(dir), 0o755) //nolint:gosec // as on any system
}

// mounted tells whether something is mounted at dir, by proc_pid_mountinfo(5). A path with
// a character that is escaped there is none of this package's.
func (a applier) mounted(dir string) (bool, error) {
	data, err := os.ReadFile(a.root.Join("/proc/self/mountinfo"))
	if err != nil {
		return false, fmt.Errorf("read what is mounted: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == dir {
			return true, nil
		}
	}
	return false, nil
}
