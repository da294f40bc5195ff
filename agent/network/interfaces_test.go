package network_test

import (
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/network"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestThePrimaryInterfaceIsTheDeviceWithTheMACOfMetadata(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	for name, address := range map[string]string{"ens5": "02:aa:00:00:00:01", "ens6": "02:aa:00:00:00:02", "lo": "00:00:00:00:00:00"} {
		if err := root.Apply(rootfs.File{Path: "/sys/class/net/" + name + "/address", Data: []byte(address + "\n")}); err != nil {
			t.Fatal(err)
		}
		if name != "lo" {
			if err := root.Apply(rootfs.File{Path: "/sys/class/net/" + name + "/device/vendor", Data: []byte("0x1d0f\n")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A VLAN of the second one, which sorts before it.
	if err := root.Apply(rootfs.File{Path: "/sys/class/net/a.100/address", Data: []byte("02:aa:00:00:00:02\n")}); err != nil {
		t.Fatal(err)
	}
	for mac, want := range map[string]string{"02:AA:00:00:00:01": "ens5", "02:aa:00:00:00:02": "ens6", "00:00:00:00:00:00": "", "02:aa:00:00:00:03": "", "": ""} {
		if got, err := network.Primary(root, mac); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", mac, got, err, want)
		}
	}
}

func TestAMachineWithoutInterfacesHasNoPrimaryOne(t *testing.T) {
	if got, err := network.Primary(rootfs.Root(t.TempDir()), "02:aa:00:00:00:01"); err != nil || got != "" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEveryDeviceButThePrimaryOneIsLeftAlone(t *testing.T) {
	const want = "[Match]\nType=ether\nKind=!*\nProperty=!INTERFACE=ens5\n\n[Link]\nUnmanaged=yes\n"
	if got := network.SecondaryFile("ens5"); string(got.Data) != want {
		t.Errorf("got %s", got.Data)
	}
	if got := network.SecondaryFile(""); got.Data != nil {
		t.Errorf("nobody knows which is the primary one, yet networkd gets\n%s", got.Data)
	}
}
