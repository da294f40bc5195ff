package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// NIC is a network interface besides the machine's first, which can come and go while the
// guest runs.
type NIC struct {
	Interface string // eni-..., QEMU's name for the device
	MAC       net.HardwareAddr
	Tap       string // the host's end, which QEMU makes
	Slot      int    // less than Slots; a NIC or a drive is alone in its own
}

func (n NIC) bus() string { return fmt.Sprintf("slot%d", n.Slot) }

// nics are the network interfaces besides the first that the machine starts with. Each is
// called in QEMU's network as its tap is.
func (s Spec) nics() []string {
	var arguments []string
	for _, n := range s.NICs {
		arguments = append(arguments,
			"-netdev", "tap,id="+n.Tap+",script=no,downscript=no,ifname="+n.Tap,
			"-device", fmt.Sprintf("virtio-net-pci,id=%s,netdev=%s,romfile=,mac=%s,bus=%s", n.Interface, n.Tap, n.MAC, n.bus()))
	}
	return arguments
}

// Connect plugs a network interface into the machine. Plug is called when the tap is there and
// before the guest sees the device. A device that is there already stays.
func (m *Machine) Connect(ctx context.Context, n NIC, plug func() error) error {
	device, err := m.hasDevice(ctx, n.Interface)
	if err != nil {
		return err
	}
	if device {
		return plug()
	}
	// A process that was killed may have left the tap.
	if err := m.removeTap(ctx, n.Tap); err != nil {
		return err
	}
	if err := m.qmp.run(ctx, "netdev_add", map[string]any{
		"type": "tap", "id": n.Tap, "ifname": n.Tap, "script": "no", "downscript": "no",
	}, nil); err != nil {
		return err
	}
	if err := plug(); err != nil {
		return err
	}
	return m.qmp.run(ctx, "device_add", map[string]any{
		"driver": "virtio-net-pci", "id": n.Interface, "netdev": n.Tap, "mac": n.MAC.String(), "romfile": "", "bus": n.bus(),
	}, nil)
}

// Disconnect asks the guest to let go of a network interface, and takes it and its tap away.
// One that is not there is no error.
func (m *Machine) Disconnect(ctx context.Context, n NIC) error {
	device, err := m.hasDevice(ctx, n.Interface)
	if err != nil {
		return err
	}
	if device {
		if err := m.unplug(ctx, n.Interface); err != nil {
			return err
		}
	}
	return m.removeTap(ctx, n.Tap)
}

func (m *Machine) removeTap(ctx context.Context, tap string) error {
	err := m.qmp.run(ctx, "netdev_del", map[string]any{"id": tap}, nil)
	var refused *refusal
	if errors.As(err, &refused) && refused.class == "DeviceNotFound" {
		return nil
	}
	return err
}
