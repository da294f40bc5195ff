// Package disk lays out a node's instance-store drives, and makes swap. Drives finds them,
// PlanFor decides which array, file systems and mounts a strategy makes of them, and only
// Plan.Apply and Swap change the machine. Volume finds an EBS volume, for those that have a
// Plan of their own. A drive that holds anything is never formatted.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// What NVMe drives on EC2 call themselves.
const (
	storeSerial = "AWS" // an EBS volume's is its ID without the hyphen: vol0123...
	volumeModel = "Amazon Elastic Block Store"
)

// Drive is one instance-store drive.
type Drive struct {
	Device string // /dev/nvme1n1; may be another one after a reboot
	Serial string // stays the same over a reboot
}

// Drives reads from root's /sys which NVMe drives are instance store, ordered by serial, so
// that a reboot which names the devices otherwise finds the same order. The serial decides,
// and the model may only object: hypervisors other than EC2's cannot all set it.
func Drives(root rootfs.Root) ([]Drive, error) {
	var found []string // "SERIAL\x00DEVICE"
	err := eachDrive(root, func(name, serial string) error {
		model, err := attribute(root, name, "model")
		if err == nil && strings.HasPrefix(serial, storeSerial) && model != volumeModel {
			found = append(found, serial+"\x00/dev/"+name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var drives []Drive
	for _, drive := range found {
		serial, device, _ := strings.Cut(drive, "\x00")
		drives = append(drives, Drive{Device: device, Serial: serial})
	}
	return drives, nil
}

// Volume returns the device of an EBS volume by the volume's ID, "" while the machine has none.
func Volume(root rootfs.Root, id string) (device string, err error) {
	wanted := strings.Replace(id, "-", "", 1)
	err = eachDrive(root, func(name, serial string) error {
		if serial == wanted {
			device = "/dev/" + name
		}
		return nil
	})
	return device, err
}

// eachDrive calls see for every NVMe drive.
func eachDrive(root rootfs.Root, see func(name, serial string) error) error {
	entries, err := os.ReadDir(root.Join("/sys/block"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	// A namespace, neither a partition of it nor one path to it (nvme0c0n1).
	namespace := regexp.MustCompile(`^nvme[0-9]+n[0-9]+$`)
	for _, entry := range entries {
		if !namespace.MatchString(entry.Name()) {
			continue
		}
		serial, err := attribute(root, entry.Name(), "serial")
		if err == nil {
			err = see(entry.Name(), serial)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attribute reads what a drive's controller says of itself; NVMe pads it with spaces. A
// controller that went away between listing and reading has none.
func attribute(root rootfs.Root, block, name string) (string, error) {
	data, err := os.ReadFile(root.Join(path.Join("/sys/block", block, "device", name)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the %s of drive %s: %w", name, block, err)
	}
	return strings.TrimSpace(string(data)), nil
}
