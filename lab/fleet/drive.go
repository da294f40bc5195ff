package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

// pressEvery is how often the power button is pressed while a guest shuts down: one that
// is still booting does not see the first press.
const pressEvery = 5 * time.Second

// drive takes one instance through its life, from whatever state it is in, until it is
// forgotten or the context ends.
func (f *Fleet) drive(ctx context.Context, id string) {
	f.mu.Lock()
	e, ok := f.instances[id]
	f.mu.Unlock()
	if !ok {
		return
	}
	d := &driver{Fleet: f, id: id, changed: e.changed}
	backoff := retry.Backoff{First: 200 * time.Millisecond, Limit: 10 * time.Second}
	for {
		i, ok := f.get(id)
		if !ok {
			return
		}
		err := d.step(ctx, i)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			backoff.Reset()
			continue
		}
		wait := backoff.Next()
		f.Logger.Warn("instance is held up; trying again", zap.String("instance", id),
			zap.String("state", string(i.State)), zap.Error(err), zap.Duration("after", wait))
		if retry.Wait(ctx, wait) != nil {
			return
		}
	}
}

// driver drives one instance. It holds the instance's machine while one runs.
type driver struct {
	*Fleet
	id      string
	changed <-chan struct{}
	machine Machine
}

// step does what the instance's state asks for. It returns when the state has changed, or
// may have, and with an error when the same is to be tried again.
func (d *driver) step(ctx context.Context, i Instance) error {
	switch i.State {
	case Pending:
		return d.boot(ctx, i)
	case Running:
		return d.attend(ctx, i)
	case Stopping:
		return d.stop(ctx, i)
	case Stopped:
		return d.rest(ctx)
	case ShuttingDown:
		return d.shutDown(ctx, i)
	case Terminated:
		return d.forget(ctx, i)
	}
	return fmt.Errorf("instance %s is in the unknown state %q", i.ID, i.State)
}

// boot starts the instance's machine. A machine that cannot be started ends the instance,
// as on EC2, or leaves it stopped if it ran before; the reason stays with it.
func (d *driver) boot(ctx context.Context, i Instance) error {
	err := d.adopt(ctx, i)
	if err != nil && !errors.Is(err, vm.ErrNotRunning) {
		return err
	}
	if err != nil {
		// A stop takes what the instance store held; a reboot does not come by here.
		err = vm.RemoveDrives(d.Dir.Instance(i.ID))
		if err == nil {
			err = d.start(ctx, i)
		}
	}
	if err == nil {
		err = d.connect(ctx, i)
	}
	if err == nil {
		return d.move(d.id, Pending, Running, Reason{})
	}
	if ctx.Err() != nil {
		return ctx.Err() // the next process carries on
	}
	if i.HasVolume {
		return errors.Join(d.halt(ctx, i), d.move(d.id, Pending, Stopped, serverError(err.Error())))
	}
	if cleanErr := d.clean(ctx, i); cleanErr != nil {
		return errors.Join(err, cleanErr)
	}
	return d.move(d.id, Pending, Terminated, serverError(err.Error()))
}

func (d *driver) start(ctx context.Context, i Instance) error {
	kind, ok := FindType(i.Type)
	if !ok {
		return fmt.Errorf("no instance type %s", i.Type)
	}
	if err := d.Announce(); err != nil {
		return err
	}
	dir := d.Dir.Instance(i.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", i.ID, err)
	}
	image, uefiData, err := d.Disks.Disk(i.ImageID)
	if err != nil {
		return err
	}
	uefiFile := ""
	if uefiData != nil {
		uefiFile = filepath.Join(dir, "uefi-data")
		if err := renameio.WriteFile(uefiFile, uefiData, 0o600); err != nil {
			return fmt.Errorf("write the firmware's variables of %s: %w", i.ID, err)
		}
	}
	volumes, err := d.drives(i)
	if err != nil {
		return err
	}
	power := d.Machines.Start
	if i.HasVolume {
		power = d.Machines.Restart
	}
	machine, err := power(ctx, vm.Spec{
		Instance: i.ID, Dir: dir, Image: image, UefiData: uefiFile,
		Volume: i.VolumeID, VolumeGiB: i.VolumeGiB,
		Type: kind.Name, VCPUs: min(kind.VCPUs, runtime.NumCPU()), MemoryMiB: min(kind.MemoryMiB, mostMemoryMiB), Drives: kind.Drives, Volumes: volumes,
		MAC: i.HardwareAddr(), Tap: i.tap(), NICs: i.nics(),
	})
	if err != nil {
		return err
	}
	d.machine = machine
	return nil
}

// adopt finds the machine that an earlier process, or an earlier step, started.
func (d *driver) adopt(ctx context.Context, i Instance) error {
	if d.machine != nil {
		return nil
	}
	machine, err := d.Machines.Adopt(ctx, d.Dir.Instance(i.ID))
	if err != nil {
		return err
	}
	d.machine = machine
	return nil
}

// connect gives the machine its network and lets it run.
func (d *driver) connect(ctx context.Context, i Instance) error {
	for _, p := range d.ports(i) {
		if err := d.Network.Plug(p); err != nil {
			return err
		}
	}
	return d.machine.Resume(ctx)
}

func (d *driver) port(i Instance) network.Port {
	subnet, _ := d.Plan.Subnet(i.SubnetID)
	return network.Port{Interface: i.tap(), Bridge: subnet.Bridge, MAC: i.HardwareAddr(), Address: i.Address}
}

// ports are those of the interfaces that the machine certainly has; settle sees to the others.
func (d *driver) ports(i Instance) []network.Port {
	all := []network.Port{d.port(i)}
	for _, n := range i.Interfaces {
		if n.State == Attached {
			all = append(all, d.portOf(n))
		}
	}
	return all
}

// unplug frees the addresses of all interfaces.
func (d *driver) unplug(i Instance) error {
	failed := []error{d.Network.Unplug(d.port(i))}
	for _, n := range i.Interfaces {
		failed = append(failed, d.Network.Unplug(d.portOf(n)))
	}
	return errors.Join(failed...)
}

// attend watches a running instance until its state changes.
func (d *driver) attend(ctx context.Context, i Instance) error {
	if i.Rebooting {
		return d.reboot(ctx, i)
	}
	fresh := d.machine == nil
	err := d.adopt(ctx, i)
	if errors.Is(err, vm.ErrNotRunning) {
		return d.move(d.id, Running, Stopped, serverError("the virtual machine ended while the lab was down"))
	}
	if err != nil {
		return err
	}
	if fresh {
		if err := d.connect(ctx, i); err != nil {
			return errors.Join(d.kill(ctx), d.move(d.id, Running, Stopped, serverError(err.Error())))
		}
	}
	unsettled := d.settle(ctx, i)
	interrupted, disarm := d.interruption(i)
	defer disarm()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.changed:
		return nil
	case <-unsettled:
		return nil
	case <-interrupted:
		return d.interrupt(i)
	case <-d.machine.Halted():
		why := Reason{Code: ReasonGuestShutdown, Message: ReasonGuestShutdown + ": Instance initiated shutdown"}
		next := Stopped
		if i.TerminateOnShutdown {
			next = ShuttingDown
		} else if err := d.kill(ctx); err != nil {
			return err
		}
		return d.move(d.id, Running, next, why)
	case <-d.machine.Gone():
		words := d.machine.LastWords()
		d.machine = nil
		return d.move(d.id, Running, Stopped, serverError("the virtual machine ended by itself: "+words))
	}
}

// shutDown asks the guest to power off, ends the machine and removes what it had.
func (d *driver) shutDown(ctx context.Context, i Instance) error {
	if err := d.powerOff(ctx, i); err != nil {
		return err
	}
	if err := d.clean(ctx, i); err != nil {
		return err
	}
	return d.move(d.id, ShuttingDown, Terminated, i.Reason)
}

// awaitPowerOff returns when the guest is off, or has had its time, or is not to be asked.
func (d *driver) awaitPowerOff(ctx context.Context, i Instance) {
	limit := time.NewTimer(d.ShutdownLimit)
	defer limit.Stop()
	press := time.NewTicker(pressEvery)
	defer press.Stop()
	for !i.SkipShutdown && !isClosed(d.machine.Halted()) {
		if err := d.machine.PowerDown(ctx); err != nil {
			d.Logger.Info("the power button does not work", zap.String("instance", d.id), zap.Error(err))
		}
		select {
		case <-d.machine.Halted():
			return
		case <-d.machine.Gone():
			return
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		case <-d.changed:
			i, _ = d.get(d.id) // perhaps told to skip the shutdown now
		case <-press.C:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// kill ends the machine and waits until it is gone.
func (d *driver) kill(ctx context.Context) error {
	if d.machine == nil {
		return nil
	}
	d.machine.Kill()
	select {
	case <-d.machine.Gone():
		d.machine = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// halt ends the machine and takes it off the network. Its volume stays.
func (d *driver) halt(ctx context.Context, i Instance) error {
	if err := d.kill(ctx); err != nil {
		return err
	}
	return d.unplug(i)
}

// clean removes the machine, its files and its place on the network.
func (d *driver) clean(ctx context.Context, i Instance) error {
	if err := d.kill(ctx); err != nil {
		return err
	}
	return errors.Join(vm.RemoveFiles(d.Dir.Instance(i.ID)), d.unplug(i))
}

func serverError(message string) Reason {
	return Reason{Code: ReasonServerError, Message: ReasonServerError + ": " + message}
}

// forget takes a terminated instance's name away, and drops the instance when it has been
// listed long enough.
func (d *driver) forget(ctx context.Context, i Instance) error {
	if err := d.Announce(); err != nil {
		return err
	}
	if left := i.StateTime.Add(d.Retention).Sub(d.Now()); left > 0 {
		return d.wait(ctx, left)
	}
	if err := os.RemoveAll(d.Dir.Instance(i.ID)); err != nil {
		return fmt.Errorf("remove what is left of %s: %w", i.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.instances[i.ID]
	delete(d.instances, i.ID)
	if err := d.save(); err != nil {
		d.instances[i.ID] = before
		return err
	}
	return nil
}

// rest waits beside a stopped instance, which may have got or lost interfaces.
func (d *driver) rest(ctx context.Context) error {
	if err := d.Announce(); err != nil {
		return err
	}
	return d.wait(ctx, 0)
}

// wait returns when the instance was changed, or when the time is up; zero is for ever.
func (d *driver) wait(ctx context.Context, limit time.Duration) error {
	var up <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		up = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.changed:
	case <-up:
	}
	return nil
}
