package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

// partition is one of the partitions of a disk.
type partition struct {
	device string // nvme0n1p2
	number string // MAJOR:MINOR
}

func (p partition) path() string { return "/dev/" + p.device }

var wanted = []string{disk.Root, disk.RootVerity, disk.Var}

// awaitPartitions returns the node's partitions by name as soon as a disk has all of
// them. The kernel's events are subscribed to before the first look, so that none is
// missed.
func awaitPartitions(ctx context.Context, sys string) (map[string]partition, error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, errors.New("listen to the kernel's events: " + err.Error())
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.New("listen to the kernel's events: " + err.Error())
	}
	deadline, _ := ctx.Deadline()
	for {
		found, err := findPartitions(sys)
		if found != nil || err != nil {
			return found, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, errors.New("no disk has the partitions " + strings.Join(wanted, ", ") + "; there are: " + listPartitions(sys))
		}
		// Which event it is does not matter, and neither does one that was lost.
		poll := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(left.Milliseconds())+1); n > 0 && err == nil {
			buffer := make([]byte, 16<<10)
			_, _, _ = unix.Recvfrom(events, buffer, unix.MSG_DONTWAIT)
		}
	}
}

// findPartitions looks for a disk that has all the wanted partitions; nil when there is
// none. Of several, as when another node's volume is attached for a look at it, the
// first by name is this machine's own.
func findPartitions(sys string) (map[string]partition, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	disks := map[string]map[string]partition{}
	for _, entry := range entries {
		properties := readProperties(filepath.Join(sys, entry.Name(), "uevent"))
		name := properties["PARTNAME"]
		if !slices.Contains(wanted, name) {
			continue
		}
		// /sys/class/block/nvme0n1p2 leads to .../nvme0n1/nvme0n1p2.
		target, err := os.Readlink(filepath.Join(sys, entry.Name()))
		if err != nil {
			continue // it is gone
		}
		parent := filepath.Dir(target)
		if disks[parent] == nil {
			disks[parent] = map[string]partition{}
		}
		disks[parent][name] = partition{device: properties["DEVNAME"], number: properties["MAJOR"] + ":" + properties["MINOR"]}
	}
	var complete []string
	for parent, parts := range disks {
		if len(parts) == len(wanted) {
			complete = append(complete, parent)
		}
	}
	if len(complete) == 0 {
		return nil, nil
	}
	slices.SortFunc(complete, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return disks[complete[0]], nil
}

// readProperties reads a uevent file; one that cannot be read has none.
func readProperties(file string) map[string]string {
	content, _ := os.ReadFile(file)
	properties := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			properties[key] = value
		}
	}
	return properties
}

// listPartitions is what the machine has instead, for the error.
func listPartitions(sys string) string {
	entries, _ := os.ReadDir(sys)
	names := []string{}
	for _, entry := range entries {
		name := entry.Name()
		if label := readProperties(filepath.Join(sys, name, "uevent"))["PARTNAME"]; label != "" {
			name += " (" + label + ")"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "no disk at all"
	}
	return strings.Join(names, ", ")
}
