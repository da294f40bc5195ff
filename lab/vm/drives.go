package vm

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Slots is how many volumes and network interfaces together a machine can have besides its root
// volume and its first interface. EC2 has 27 and more; each costs the firmware a bridge to look
// behind.
const Slots = 4

// Drive is a volume besides the root's, which can come and go while the guest runs.
type Drive struct {
	Volume string // vol-..., which the guest finds as the drive's serial number
	Path   string // raw disk
	Slot   int    // less than Slots; a drive or a NIC is alone in its own
}

// unplugLimit is how long a guest has to let go of a device.
const unplugLimit = 30 * time.Second

// slots are the PCI Express ports that drives and NICs are plugged into. They stand at the end of the
// bus, so that what else the guest has keeps its place, and names made of it.
func slots() []string {
	var arguments []string
	for n := range Slots {
		arguments = append(arguments, "-device", fmt.Sprintf("pcie-root-port,id=slot%d,bus=pcie.0,addr=1e.%x,multifunction=on,chassis=%d", n, n, n+1))
	}
	return arguments
}

// name is what QEMU calls both the disk and the device.
func (d Drive) name() string { return serial(d.Volume) }

// volumeDrives are the volumes that the machine starts with.
func (s Spec) volumeDrives() []string {
	var arguments []string
	for _, d := range s.Volumes {
		arguments = append(arguments,
			"-blockdev", "driver=raw,node-name="+d.name()+",discard=unmap,file.driver=file,file.discard=unmap,file.filename="+strings.ReplaceAll(d.Path, ",", ",,"),
			"-device", fmt.Sprintf("nvme,id=%s,drive=%s,serial=%s,bus=slot%d", d.name(), d.name(), d.name(), d.Slot))
	}
	return arguments
}

// Attach plugs a drive into the machine. One that is there already stays.
func (m *Machine) Attach(ctx context.Context, d Drive) error {
	disk, err := m.hasDisk(ctx, d.name())
	if err != nil {
		return err
	}
	if !disk {
		file := map[string]any{"driver": "file", "filename": d.Path, "discard": "unmap"}
		if err := m.qmp.run(ctx, "blockdev-add", map[string]any{"driver": "raw", "node-name": d.name(), "discard": "unmap", "file": file}, nil); err != nil {
			return err
		}
	}
	device, err := m.hasDevice(ctx, d.name())
	if err != nil || device {
		return err
	}
	return m.qmp.run(ctx, "device_add", map[string]any{
		"driver": "nvme", "id": d.name(), "drive": d.name(), "serial": d.name(), "bus": fmt.Sprintf("slot%d", d.Slot),
	}, nil)
}

// Detach asks the guest to let go of a volume's drive, and takes it away. One that is not
// there is no error.
func (m *Machine) Detach(ctx context.Context, volume string) error {
	name := serial(volume)
	device, err := m.hasDevice(ctx, name)
	if err != nil {
		return err
	}
	if device {
		if err := m.unplug(ctx, name); err != nil {
			return err
		}
	}
	disk, err := m.hasDisk(ctx, name)
	if err != nil || !disk {
		return err
	}
	return m.qmp.run(ctx, "blockdev-del", map[string]any{"node-name": name}, nil)
}

// unplug returns when the guest has let go of the device.
func (m *Machine) unplug(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unplugLimit)
	defer cancel()
	released := make(chan struct{})
	m.mu.Lock()
	if m.unplugs == nil {
		m.unplugs = map[string]chan struct{}{}
	}
	m.unplugs[name] = released
	m.mu.Unlock()
	if err := m.qmp.run(ctx, "device_del", map[string]any{"id": name}, nil); err != nil {
		return err
	}
	select {
	case <-released:
		return nil
	case <-m.gone:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for the guest to let go of %s: %w", name, ctx.Err())
	}
}

// released tells who waits for it that a device is gone.
func (m *Machine) released(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.unplugs[name]; ok {
		close(c)
		delete(m.unplugs, name)
	}
}

func (m *Machine) hasDevice(ctx context.Context, name string) (bool, error) {
	var devices []struct {
		Name string `json:"name"`
	}
	err := m.qmp.run(ctx, "qom-list", map[string]any{"path": "/machine/peripheral"}, &devices)
	for _, d := range devices {
		if d.Name == name {
			return true, err
		}
	}
	return false, err
}

func (m *Machine) hasDisk(ctx context.Context, name string) (bool, error) {
	var disks []struct {
		Name string `json:"node-name"`
	}
	err := m.qmp.run(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &disks)
	for _, d := range disks {
		if d.Name == name {
			return true, err
		}
	}
	return false, err
}
