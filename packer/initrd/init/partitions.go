package main

import (
	"context"
	"errors"
	"maps"
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
	drive  string // nvme0n1
	device string // nvme0n1p2
	number string // MAJOR:MINOR
}

func (p partition) path() string { return "/dev/" + p.device }

var wanted = []string{disk.Root, disk.RootVerity, disk.Var}

// node is the partitions of one disk by name, all that are wanted.
type node map[string]partition

// settle is how long disks may go on showing up after one that could be it.
const settle = 2 * time.Second

// choice says which disk is meant.
type choice struct {
	is      func(node) bool // one of the image
	started func(node) bool // the one that the firmware started from, as far as it tells
}

// awaitNode returns the disk that has all the wanted partitions and that is meant. A volume
// of another node may be attached beside this one's, for a look at it, and be of the same
// image: the one that the firmware started from is taken as soon as it is there, another
// only if it stays the only one.
// The kernel's events are subscribed to before the first look, so that none is missed.
func awaitNode(ctx context.Context, sys string, meant choice) (node, error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, errors.New("listen to the kernel's events: " + err.Error())
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.New("listen to the kernel's events: " + err.Error())
	}
	deadline, _ := ctx.Deadline()
	var settled time.Time // when no other disk is waited for
	for {
		found, err := findNodes(sys)
		if err != nil {
			return nil, err
		}
		all := len(found)
		found = slices.DeleteFunc(found, func(n node) bool { return !meant.is(n) })
		started := slices.DeleteFunc(slices.Clone(found), func(n node) bool { return !meant.started(n) })
		if len(started) == 1 {
			return started[0], nil
		}
		if len(found) > 0 && settled.IsZero() {
			settled = time.Now().Add(settle)
		}
		left := time.Until(deadline)
		if len(found) > 0 {
			left = min(left, time.Until(settled))
		}
		switch {
		case left <= 0 && len(found) == 1:
			return found[0], nil
		case left <= 0 && len(found) > 1:
			return nil, errors.New("the root hash of the command line is that of several disks, and the firmware does not tell which of them is this node's: detach the other nodes' volumes; there are: " + listPartitions(sys))
		case left <= 0 && all > 0:
			return nil, errors.New("the root hash of the command line is that of no disk; there are: " + listPartitions(sys))
		case left <= 0:
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

// findNodes looks for disks that have all the wanted partitions, in the order of their names.
func findNodes(sys string) ([]node, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	disks := map[string]node{}
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
		disk := filepath.Dir(target)
		if disks[disk] == nil {
			disks[disk] = node{}
		}
		disks[disk][name] = partition{drive: filepath.Base(disk), device: properties["DEVNAME"], number: properties["MAJOR"] + ":" + properties["MINOR"]}
	}
	var complete []node
	for _, name := range slices.SortedFunc(maps.Keys(disks), func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) }) {
		if len(disks[name]) == len(wanted) {
			complete = append(complete, disks[name])
		}
	}
	return complete, nil
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
