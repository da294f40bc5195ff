package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

// ErrIndexInUse is AttachInterface's answer when an interface has the device index.
var ErrIndexInUse = errors.New("the device index is in use")

// LimitError tells that an instance would have more network interfaces than its type takes.
type LimitError struct {
	Count int // with the one that was asked for
	Type  string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d network interfaces are too many for %s", e.Count, e.Type)
}

// Interface is a network interface that is attached to an instance besides its first one.
type Interface struct {
	ID           string          `json:"id"`
	AttachmentID string          `json:"attachmentId"`
	Index        int             `json:"index"` // of the device, as EC2 counts; 0 is the first interface
	MAC          string          `json:"mac"`
	Address      netip.Addr      `json:"address"`
	SubnetID     string          `json:"subnetId"`
	Groups       []Group         `json:"groups,omitempty"`
	Slot         int             `json:"slot"` // of the machine
	State        AttachmentState `json:"state"`
	Time         time.Time       `json:"time"` // of the request to attach it
}

// NewMAC is a hardware address for a new interface.
func NewMAC() string { return newMAC().String() }

func (n Interface) hardwareAddr() net.HardwareAddr {
	mac, _ := net.ParseMAC(n.MAC) // NewMAC's
	return mac
}

// nic is the interface as the machine has it. The tap's name has at most 15 characters.
func (n Interface) nic() vm.NIC {
	return vm.NIC{Interface: n.ID, MAC: n.hardwareAddr(), Tap: "eni" + n.ID[max(0, len(n.ID)-11):], Slot: n.Slot}
}

// nics are the interfaces that a machine is started with, besides the first: one that is on its
// way is there then, and one that is to go is gone.
func (i Instance) nics() []vm.NIC {
	var all []vm.NIC
	for _, n := range i.Interfaces {
		if n.State != Detaching {
			all = append(all, n.nic())
		}
	}
	return all
}

// NICs is a Machine whose network interfaces can be plugged while its guest runs; vm.Machine
// documents the methods. On machines that are none they are only recorded.
type NICs interface {
	Connect(ctx context.Context, n vm.NIC, plug func() error) error
	Disconnect(ctx context.Context, n vm.NIC) error
}

// AttachInterface attaches a network interface to an instance that runs, in the background, or
// that is stopped. Other states are a *StateError, and more interfaces than the instance's type
// takes a *LimitError.
func (f *Fleet) AttachInterface(id string, n Interface) (Interface, error) {
	_, err := f.command([]string{id}, func(i *Instance) error {
		kind, _ := FindType(i.Type)
		n.Slot, n.State, n.Time, n.AttachmentID = i.freeSlot(), Attaching, f.Now().UTC(), newID("eni-attach-0")
		switch {
		case i.State == Stopped:
			n.State = Attached
		case i.State != Running:
			return &StateError{ID: i.ID, State: i.State}
		}
		switch {
		case n.Index == 0 || slices.ContainsFunc(i.Interfaces, func(other Interface) bool { return other.Index == n.Index }):
			return ErrIndexInUse
		case len(i.Interfaces)+2 > kind.Interfaces:
			return &LimitError{Count: len(i.Interfaces) + 2, Type: i.Type}
		case n.Slot >= vm.Slots:
			return ErrNoSlots
		}
		i.Interfaces = append(slices.Clone(i.Interfaces), n)
		return nil
	})
	return n, err
}

// DetachInterface takes a network interface off an instance: in the background where it runs and
// its guest has to let go.
func (f *Fleet) DetachInterface(id, eni string) error {
	_, err := f.command([]string{id}, func(i *Instance) error {
		if i.State == Stopped {
			i.withoutInterface(eni)
			return nil
		}
		i.setInterface(eni, func(n *Interface) { n.State = Detaching })
		return nil
	})
	return err
}

// Regroup puts a network interface of an instance, the first one or another, into other security
// groups.
func (f *Fleet) Regroup(id, eni string, groups []Group) error {
	_, err := f.command([]string{id}, func(i *Instance) error {
		if i.InterfaceID == eni {
			i.Groups = slices.Clone(groups)
			return nil
		}
		i.setInterface(eni, func(n *Interface) { n.Groups = slices.Clone(groups) })
		return nil
	})
	return err
}

func (i *Instance) withoutInterface(eni string) {
	i.Interfaces = slices.DeleteFunc(slices.Clone(i.Interfaces), func(n Interface) bool { return n.ID == eni })
}

func (i *Instance) setInterface(eni string, change func(*Interface)) {
	i.Interfaces = slices.Clone(i.Interfaces) // snapshots keep theirs
	for n := range i.Interfaces {
		if i.Interfaces[n].ID == eni {
			change(&i.Interfaces[n])
		}
	}
}

func (d *driver) portOf(n Interface) network.Port {
	subnet, _ := d.Plan.Subnet(n.SubnetID)
	return network.Port{Interface: n.nic().Tap, Bridge: subnet.Bridge, MAC: n.hardwareAddr(), Address: n.Address}
}

// settleInterfaces plugs and unplugs what the running instance is to have and to lose. Each step
// may have been done before by a process that was killed.
func (d *driver) settleInterfaces(ctx context.Context, i Instance) error {
	for _, n := range i.Interfaces {
		var err error
		switch n.State {
		case Attaching:
			err = d.bring(ctx, n)
		case Detaching:
			err = d.take(ctx, n)
		}
		if err != nil {
			return fmt.Errorf("network interface %s is %s: %w", n.ID, n.State, err)
		}
	}
	return nil
}

// bring gives the guest an interface, whose address the network knows by then.
func (d *driver) bring(ctx context.Context, n Interface) error {
	if err := d.Announce(); err != nil {
		return err
	}
	plug := func() error { return d.Network.Plug(d.portOf(n)) }
	if nics, real := d.machine.(NICs); real {
		if err := nics.Connect(ctx, n.nic(), plug); err != nil {
			return err
		}
	}
	return d.amend(d.id, func(i *Instance) {
		i.setInterface(n.ID, func(n *Interface) {
			if n.State == Attaching { // nobody wants it back meanwhile
				n.State = Attached
			}
		})
	})
}

// take takes an interface from the guest, and then from the network.
func (d *driver) take(ctx context.Context, n Interface) error {
	if nics, real := d.machine.(NICs); real {
		if err := nics.Disconnect(ctx, n.nic()); err != nil {
			return err
		}
	}
	if err := d.Network.Unplug(d.portOf(n)); err != nil {
		return err
	}
	if err := d.amend(d.id, func(i *Instance) { i.withoutInterface(n.ID) }); err != nil {
		return err
	}
	return d.Announce()
}
