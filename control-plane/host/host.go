// Package host makes an instance the one that runs `ovenbird serve`: it takes the data volume
// and the network interface over from the instance that had them before, mounts the volume,
// answers at the interface's address, and writes down how the service is to be run. Each step
// looks first what is there, so that all of it can be cut off anywhere and come again. It takes
// nothing away from an instance that still has it, and never formats what holds anything.
package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/disk"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Where things are on a host. The volume is not at /var/lib/ovenbird, where the agent keeps
// what is the instance's own.
const (
	MountPoint    = "/var/lib/ovenbird/data"
	StateDir      = MountPoint + "/control-plane" // of `ovenbird serve`
	keyFile       = MountPoint + "/backup.key"
	componentsDir = "/usr/lib/ovenbird/components"
	policyFile    = "/run/ovenbird/policy.json"
	argumentsFile = "/run/ovenbird/serve.env"
	growProgram   = "/usr/lib/systemd/systemd-growfs"
)

// Network is the machine's.
type Network interface {
	// Reload has systemd-networkd read its files.
	Reload(ctx context.Context) error
	// Addresses are those that the machine answers at.
	Addresses() ([]netip.Addr, error)
}

// Clouds are the AWS services that a host calls.
type Clouds struct {
	Volumes    Volumes
	Interfaces Interfaces
	Parameters Parameters
}

// Host is an instance that is to host control planes, with its surroundings.
type Host struct {
	Spec     nodeconfig.HostSpec
	Instance imds.Instance
	Clouds   Clouds
	Root     rootfs.Root
	Disks    disk.Machine
	Network  Network
	// MakeKey writes a new key for backups to a file that is not there yet.
	MakeKey func(path string) error
	Sleep   func(ctx context.Context, d time.Duration) error
	Random  func() float64      // in [0, 1)
	Tell    func(status string) // what it is at, in one line
	Log     *zap.Logger

	at address // once the network interface is known
}

// step is one thing that must be done before the service can run.
type step struct {
	name    string
	attempt time.Duration // how long one attempt may take
	run     func(ctx context.Context) error
}

// Prepare does all that must be before `ovenbird serve` can run. It tries each step again for as
// long as it takes, and returns an error only when ctx ends.
func (h *Host) Prepare(ctx context.Context) error {
	const call = time.Minute // several calls of AWS, each of which the SDK tries again
	steps := []step{
		{"attach the data volume", call, h.attachVolume},
		{"mount the data volume", 10 * time.Minute, h.mountVolume},
		{"attach the network interface", call, h.attachInterface},
		{"answer at the fixed address", time.Minute, h.awaitAddress},
	}
	if h.Spec.Backups != nil {
		steps = append(steps, step{"get the key of backups", call, h.ensureKey})
	}
	steps = append(steps, step{"write how the service is run", time.Minute, h.writeFiles})
	for _, s := range steps {
		if err := h.untilDone(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		h.Log.Info("done", zap.String("step", s.name))
	}
	return nil
}

// waiting is what a step waits for, which is nobody's mistake.
type waiting string

func (w waiting) Error() string { return string(w) }

func (h *Host) untilDone(ctx context.Context, s step) error {
	h.Tell(s.name)
	said := ""
	for failures := 1; ; failures++ {
		err := h.attempt(ctx, s)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		wait := delay(failures, h.Random())
		var patience waiting
		switch {
		case !errors.As(err, &patience):
			h.Log.Warn("failed, will be tried again", zap.String("step", s.name), zap.Error(err), zap.Duration("in", wait))
		case err.Error() != said: // once, however long it takes
			h.Log.Info("waiting", zap.String("step", s.name), zap.String("for", err.Error()))
		}
		if said = err.Error(); patience != "" {
			h.Tell(s.name + ": waiting: " + said)
		} else {
			h.Tell(s.name + ": failed: " + said)
		}
		if err := h.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (h *Host) attempt(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.attempt, fmt.Errorf("still nothing after %s", s.attempt))
	defer cancel()
	return s.run(ctx)
}

const (
	firstDelay   = 500 * time.Millisecond
	longestDelay = 10 * time.Second // an instance that has just gone is noticed soon
)

// delay is how long to wait after that many failures: doubling, of which random takes away up
// to half.
func delay(failures int, random float64) time.Duration {
	d := longestDelay
	if doublings := failures - 1; doublings < 10 {
		d = min(d, firstDelay<<doublings)
	}
	return d - time.Duration(random*float64(d)/2)
}

// mountVolume mounts the volume once the machine has its device, and makes a file system when
// it is blank. A file system grows with its volume.
func (h *Host) mountVolume(ctx context.Context) error {
	device, err := disk.Volume(h.Root, h.Spec.VolumeID)
	if err != nil {
		return err
	}
	if device == "" {
		return waiting("no NVMe drive calls itself " + h.Spec.VolumeID + " yet")
	}
	plan := disk.Plan{FileSystems: []disk.FileSystem{{Device: device, MountPoint: MountPoint}}}
	if _, err := plan.Apply(ctx, h.Root, h.Disks, func(step string) { h.Log.Info(step) }); err != nil {
		return err
	}
	// The volume may have been made larger since; otherwise this does nothing.
	_, err = h.Disks.Run(ctx, growProgram, MountPoint)
	return err
}

// awaitAddress waits until the machine has the interface's address: the service listens there.
func (h *Host) awaitAddress(context.Context) error {
	addresses, err := h.Network.Addresses()
	if err != nil {
		return fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, address := range addresses {
		if address.Unmap() == h.at.address {
			return nil
		}
	}
	return waiting(fmt.Sprintf("systemd-networkd to set %s up", h.at.address))
}
