package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/packer/initrd/disk"
)

const (
	sysfs        = "/sys"
	efivars      = sysfs + "/firmware/efi/efivars"
	blockDevices = sysfs + "/class/block"
	// globalVariable is the vendor of the variables that the UEFI specification names.
	globalVariable = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// started tells of a disk whether the firmware has started this kernel from it. All nodes
// of an image have the same disk, so that nothing on it tells two of them apart: its place
// does. With a single NVMe controller there is nothing to ask, as EC2 attaches each volume
// with one of its own.
func started() func(node) bool {
	if controllers(sysfs) == 1 {
		return func(node) bool { return true }
	}
	if err := unix.Mount("efivarfs", efivars, "efivarfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		say("<4>", "cannot ask the firmware which disk it started from: "+err.Error())
		return func(node) bool { return false }
	}
	way := bootWay(efivars)
	_ = unix.Unmount(efivars, 0)
	return func(n node) bool { return way != "" && way == driveWay(blockDevices, n[disk.Root].drive) }
}

// controllers counts the NVMe controllers. The kernel has found those before it starts the
// initrd; what takes time is their drives.
func controllers(sysfs string) int {
	count := 0
	classes, _ := filepath.Glob(filepath.Join(sysfs, "bus/pci/devices/*/class")) // the pattern is well-formed
	for _, file := range classes {
		if class, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(class), "0x0108") {
			count++
		}
	}
	return count
}

// bootWay is the way over the PCI bus to the NVMe drive that the firmware's boot option
// names, as drive gives it; "" when the option names none (UEFI specification, 3.1.3
// and 3.3).
func bootWay(efivars string) string {
	current := variable(efivars, "BootCurrent")
	if len(current) != 2 {
		return ""
	}
	number := strings.ToUpper(hex.EncodeToString([]byte{current[1], current[0]}))
	// Attributes, the device path's length, a name in UTF-16, the device path.
	option := variable(efivars, "Boot"+number)
	if len(option) < 6 {
		return ""
	}
	length, rest := int(binary.LittleEndian.Uint16(option[4:])), option[6:]
	for len(rest) >= 2 && !bytes.Equal(rest[:2], []byte{0, 0}) {
		rest = rest[2:]
	}
	if len(rest) < 2+length {
		return ""
	}
	return pciWay(rest[2 : 2+length])
}

// pciWay reads a device path up to an NVMe namespace (UEFI specification, 10.3).
func pciWay(path []byte) string {
	var way []string
	for len(path) >= 4 {
		kind, size := [2]byte{path[0], path[1]}, int(binary.LittleEndian.Uint16(path[2:]))
		if size < 4 || size > len(path) {
			return ""
		}
		switch {
		case kind == [2]byte{1, 1} && size == 6: // PCI: function, device
			way = append(way, hex.EncodeToString(path[5:6])+"."+strconv.Itoa(int(path[4])))
		case kind == [2]byte{3, 0x17}: // an NVMe namespace
			return strings.Join(way, "/")
		}
		path = path[size:]
	}
	return ""
}

// variable reads a variable of the firmware; one that cannot be read is empty.
func variable(efivars, name string) []byte {
	content, err := os.ReadFile(filepath.Join(efivars, name+"-"+globalVariable))
	if err != nil || len(content) < 4 {
		return nil
	}
	return content[4:] // after the attributes
}

// driveWay is the way over the PCI bus to a drive of /sys/class/block, such as
// "1d.0/00.0": each bridge's device and function, and the controller's.
func driveWay(sys, drive string) string {
	device := filepath.Join(sys, drive, "device")
	// A drive that has room for more than one controller hangs below a subsystem, which
	// leads to the controller.
	if found, _ := filepath.Glob(filepath.Join(device, "nvme*", "transport")); len(found) == 1 {
		device = filepath.Dir(found[0])
	}
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return ""
	}
	var way []string
	for part := range strings.SplitSeq(device, "/") {
		if len(part) == len("0000:00:1d.0") && part[4] == ':' && part[7] == ':' && part[10] == '.' {
			way = append(way, part[8:])
		}
	}
	return strings.Join(way, "/")
}
