package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

// Errors of Attach.
var (
	ErrDeviceInUse = errors.New("the device name is in use")
	ErrNoSlots     = errors.New("no slot is free")
)

// AttachmentState is how far the attachment of a volume or of a network interface is.
type AttachmentState string

// States of an attachment.
const (
	Attaching AttachmentState = "attaching"
	Attached  AttachmentState = "attached"
	Detaching AttachmentState = "detaching"
)

// Volume is an EBS volume that is attached to an instance besides its root volume.
type Volume struct {
	ID     string          `json:"id"`
	Device string          `json:"device"` // the name that EC2 has for it
	GiB    int             `json:"gib"`
	Slot   int             `json:"slot"` // of the machine
	State  AttachmentState `json:"state"`
	Time   time.Time       `json:"time"` // of the request to attach it
}

// Slots is a Machine whose drives can be plugged while its guest runs; vm.Machine documents
// the methods. On machines that are none volumes are only recorded.
type Slots interface {
	Attach(context.Context, vm.Drive) error
	Detach(ctx context.Context, volume string) error
}

// Attach attaches a volume to an instance that runs, in the background, or that is stopped.
// Other states are a *StateError.
func (f *Fleet) Attach(id string, v Volume) (Instance, error) {
	_, err := f.command([]string{id}, func(i *Instance) error {
		for _, other := range i.Volumes {
			if other.Device == v.Device {
				return ErrDeviceInUse
			}
		}
		v.Slot = i.freeSlot()
		v.State, v.Time = Attaching, f.Now().UTC()
		switch {
		case i.Device() == v.Device:
			return ErrDeviceInUse
		case v.Slot >= vm.Slots:
			return ErrNoSlots
		case i.State == Stopped:
			v.State = Attached
		case i.State != Running:
			return &StateError{ID: i.ID, State: i.State}
		}
		i.Volumes = append(slices.Clone(i.Volumes), v)
		return nil
	})
	if err != nil {
		return Instance{}, err
	}
	i, _ := f.get(id)
	return i, nil
}

// Detach takes a volume off an instance: in the background where it runs and its guest has
// to let go.
func (f *Fleet) Detach(id, volume string) error {
	_, err := f.command([]string{id}, func(i *Instance) error {
		if i.State == Stopped {
			i.without(volume)
			return nil
		}
		i.setVolume(volume, Detaching)
		return nil
	})
	return err
}

// VolumeDisk is the raw disk of a volume, which is there once the volume was attached.
func (f *Fleet) VolumeDisk(id string) string { return f.Dir.Volume(id) }

// RemoveVolume removes the disk of a volume that is attached to nothing.
func (f *Fleet) RemoveVolume(id string) error {
	if err := os.Remove(f.Dir.Volume(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the disk of %s: %w", id, err)
	}
	return nil
}

// freeSlot is the first slot of the machine that no volume and no interface has; vm.Slots when
// all are taken.
func (i *Instance) freeSlot() int {
	used := map[int]bool{}
	for _, v := range i.Volumes {
		used[v.Slot] = true
	}
	for _, n := range i.Interfaces {
		used[n.Slot] = true
	}
	slot := 0
	for used[slot] {
		slot++
	}
	return slot
}

func (i *Instance) without(volume string) {
	i.Volumes = slices.DeleteFunc(slices.Clone(i.Volumes), func(v Volume) bool { return v.ID == volume })
}

func (i *Instance) setVolume(volume string, to AttachmentState) {
	i.Volumes = slices.Clone(i.Volumes) // snapshots keep theirs
	for n := range i.Volumes {
		if i.Volumes[n].ID == volume {
			i.Volumes[n].State = to
		}
	}
}

// settleStopped ends what was under way with volumes and interfaces when the machine went: there
// is no guest any more that has to take them or let them go.
func (i *Instance) settleStopped() {
	i.Volumes = slices.DeleteFunc(slices.Clone(i.Volumes), func(v Volume) bool { return v.State == Detaching })
	for n := range i.Volumes {
		i.Volumes[n].State = Attached
	}
	i.Interfaces = slices.DeleteFunc(slices.Clone(i.Interfaces), func(n Interface) bool { return n.State == Detaching })
	for n := range i.Interfaces {
		i.Interfaces[n].State = Attached
	}
}

// settleAgain is when a volume or an interface that the guest does not take or let go is tried again.
const settleAgain = 5 * time.Second

// settle settles the volumes and the interfaces. When one is held up the instance runs on, and
// what is answered tells when to try again.
func (d *driver) settle(ctx context.Context, i Instance) <-chan time.Time {
	err := errors.Join(d.settleVolumes(ctx, i), d.settleInterfaces(ctx, i))
	if err == nil {
		return nil
	}
	d.Logger.Warn("an attachment is held up; trying again", zap.String("instance", d.id), zap.Error(err), zap.Duration("after", settleAgain))
	return time.After(settleAgain)
}

// settleVolumes plugs and unplugs what the running instance is to have and to lose. Each
// step may have been done before by a process that was killed.
func (d *driver) settleVolumes(ctx context.Context, i Instance) error {
	slots, real := d.machine.(Slots)
	for _, v := range i.Volumes {
		var err error
		switch {
		case v.State == Attached:
			continue
		case v.State == Attaching && real:
			var drive vm.Drive
			if drive, err = d.disk(v); err == nil {
				err = slots.Attach(ctx, drive)
			}
		case v.State == Detaching && real:
			err = slots.Detach(ctx, v.ID)
		}
		if err != nil {
			return fmt.Errorf("volume %s is %s: %w", v.ID, v.State, err)
		}
		err = d.amend(d.id, func(i *Instance) {
			if v.State == Detaching {
				i.without(v.ID)
				return
			}
			i.setVolume(v.ID, Attached)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// drives are the volumes that a machine is started with, besides the root's: one that is on
// its way is there then, and one that is to go is gone.
func (d *driver) drives(i Instance) ([]vm.Drive, error) {
	var all []vm.Drive
	for _, v := range i.Volumes {
		if v.State == Detaching {
			continue
		}
		drive, err := d.disk(v)
		if err != nil {
			return nil, err
		}
		all = append(all, drive)
	}
	return all, nil
}

// disk is a volume's disk, which is made blank where there is none.
func (d *driver) disk(v Volume) (vm.Drive, error) {
	path := d.Dir.Volume(v.ID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return vm.Drive{}, fmt.Errorf("make the directory of the volumes: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return vm.Drive{}, fmt.Errorf("make the disk of %s: %w", v.ID, err)
	}
	err = file.Truncate(int64(v.GiB) << 30)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return vm.Drive{}, fmt.Errorf("make the disk of %s: %w", v.ID, err)
	}
	return vm.Drive{Volume: v.ID, Path: path, Slot: v.Slot}, nil
}
