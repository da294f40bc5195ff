package network

import (
	"fmt"
	"os"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Primary returns the name of the instance's primary interface by its MAC address, "" when no
// device of the machine has it. A VLAN and the like, which may share it, are no devices.
func Primary(root rootfs.Root, mac string) (string, error) {
	const class = "/sys/class/net"
	if mac == "" {
		return "", nil
	}
	entries, err := os.ReadDir(root.Join(class))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for the interface %s: %w", mac, err)
	}
	for _, entry := range entries {
		if _, err := os.Stat(root.Join(class + "/" + entry.Name() + "/device")); err != nil {
			continue
		}
		address, err := os.ReadFile(root.Join(class + "/" + entry.Name() + "/address"))
		if err == nil && strings.EqualFold(strings.TrimSpace(string(address)), mac) {
			return entry.Name(), nil
		}
	}
	return "", nil
}

// SecondaryFile returns the file by which systemd-networkd leaves alone every device but the
// primary one: addresses and routes of an interface that is attached later are the CNI
// plugin's. The primary one goes on to match the image's own file, so that a reload of networkd
// does not touch it. The file is of this boot only: names may change with another. It matches
// by the name that udev has as a property, as Name=! holds for an interface that has any other,
// alternative name too.
func SecondaryFile(primary string) rootfs.File {
	file := rootfs.File{Path: "/run/systemd/network/05-ovenbird-secondary.network"}
	if primary != "" {
		file.Data = []byte("[Match]\nType=ether\nKind=!*\nProperty=!INTERFACE=" + primary + "\n\n[Link]\nUnmanaged=yes\n")
	}
	return file
}
