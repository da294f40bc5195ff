package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

// StateError names an instance that is in no state for what was asked.
type StateError struct {
	ID    string
	State State
}

func (e *StateError) Error() string { return fmt.Sprintf("instance %s is %s", e.ID, e.State) }

// Terminate marks instances to be ended in the background. With skipShutdown their guests
// are not asked to power off.
func (f *Fleet) Terminate(ids []string, skipShutdown bool) ([]Change, error) {
	return f.command(ids, func(i *Instance) error {
		if skipShutdown {
			i.SkipShutdown = true
		}
		if i.State != Terminated && i.State != ShuttingDown {
			f.enter(i, ShuttingDown, userShutdown())
		}
		return nil
	})
}

// Stop marks running instances to be stopped in the background; stopped ones stay so. With
// skipShutdown their guests are not asked to power off. A *StateError refuses others, and a
// spot instance of a request that is for one time.
func (f *Fleet) Stop(ids []string, skipShutdown bool) ([]Change, error) {
	return f.command(ids, func(i *Instance) error {
		switch {
		case i.Spot == InterruptionTerminate:
			return &OneTimeError{ID: i.ID}
		case i.State == Running:
			f.enter(i, Stopping, userShutdown())
		case i.State != Stopping && i.State != Stopped:
			return &StateError{ID: i.ID, State: i.State}
		}
		i.SkipShutdown = i.SkipShutdown || skipShutdown && i.State == Stopping
		return nil
	})
}

// Start marks stopped instances to be started in the background, with the volume and the
// address that they have; running ones stay so. A *StateError refuses others.
func (f *Fleet) Start(ids []string) ([]Change, error) {
	return f.command(ids, func(i *Instance) error {
		switch i.State {
		case Stopped:
			f.enter(i, Pending, pendingReason())
			i.StartTime, i.SkipShutdown, i.Notices.Interruption = i.StateTime, false, nil
		case Pending, Running:
		default:
			return &StateError{ID: i.ID, State: i.State}
		}
		return nil
	})
}

// Reboot marks running instances to be shut down and booted anew in the background, which
// leaves them running. A *StateError refuses others.
func (f *Fleet) Reboot(ids []string) error {
	_, err := f.command(ids, func(i *Instance) error {
		if i.State != Running {
			return &StateError{ID: i.ID, State: i.State}
		}
		i.Rebooting = true
		return nil
	})
	return err
}

func userShutdown() Reason {
	return Reason{Code: ReasonUserShutdown, Message: ReasonUserShutdown + ": User initiated shutdown"}
}

// enter takes an instance to a state on somebody's command.
func (f *Fleet) enter(i *Instance, to State, why Reason) {
	i.State, i.StateTime, i.Reason, i.Rebooting = to, f.Now().UTC(), why, false
}

// command changes all instances, or none when one does not exist or change refuses one,
// and wakes their drivers.
func (f *Fleet) command(ids []string, change func(*Instance) error) ([]Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []string
	for _, id := range ids {
		if _, ok := f.instances[id]; !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, &NotFoundError{IDs: missing}
	}
	before := map[string]Instance{}
	undo := func() {
		for id, i := range before {
			f.instances[id].Instance = i
		}
	}
	var changes []Change
	for _, id := range ids {
		e := f.instances[id]
		if _, twice := before[id]; twice {
			continue
		}
		before[id] = e.Instance
		if err := change(&e.Instance); err != nil {
			undo()
			return nil, err
		}
		changes = append(changes, Change{ID: id, Previous: before[id].State, Result: e.State})
	}
	if err := f.save(); err != nil {
		undo()
		return nil, err
	}
	for id := range before {
		select {
		case f.instances[id].changed <- struct{}{}:
		default:
		}
	}
	return changes, nil
}

// stop asks the guest to power off and ends the machine. The volume and the address stay.
func (d *driver) stop(ctx context.Context, i Instance) error {
	if err := d.powerOff(ctx, i); err != nil {
		return err
	}
	if now, _ := d.get(d.id); now.State != Stopping {
		return nil // terminated meanwhile
	}
	return d.move(d.id, Stopping, Stopped, i.Reason)
}

// reboot asks the guest to power off, ends the machine, and starts one on the same volume.
// What fails leaves the instance stopped.
func (d *driver) reboot(ctx context.Context, i Instance) error {
	if err := d.powerOff(ctx, i); err != nil {
		return err
	}
	if now, _ := d.get(d.id); now.State != Running {
		return nil
	}
	err := d.start(ctx, i)
	if err == nil {
		err = d.connect(ctx, i)
	}
	if ctx.Err() != nil {
		return ctx.Err() // the next process carries on
	}
	if err != nil {
		return errors.Join(d.halt(ctx, i), d.move(d.id, Running, Stopped, serverError(err.Error())))
	}
	return d.amend(d.id, func(i *Instance) { i.Rebooting = false })
}

// powerOff asks the guest to power off, if a machine runs, and ends it.
func (d *driver) powerOff(ctx context.Context, i Instance) error {
	if err := d.adopt(ctx, i); err != nil && !errors.Is(err, vm.ErrNotRunning) {
		return err
	}
	if d.machine != nil {
		d.awaitPowerOff(ctx, i)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return d.halt(ctx, i)
}

// interruption fires when the instance's spot capacity is to be taken away.
func (d *driver) interruption(i Instance) (<-chan time.Time, func()) {
	notice := i.Notices.Interruption
	if notice == nil {
		return nil, func() {}
	}
	timer := time.NewTimer(notice.Time.Sub(d.Now()))
	return timer.C, func() { timer.Stop() }
}

// interrupt takes the spot capacity of a running instance away, as announced.
func (d *driver) interrupt(i Instance) error {
	notice := i.Notices.Interruption
	next, code, words := ShuttingDown, ReasonSpotTerminate, "Spot instance termination"
	if notice.Action == InterruptionStop {
		next, code, words = Stopping, ReasonSpotStop, "Spot instance shutdown"
	}
	return d.move(d.id, Running, next, Reason{Code: code, Message: code + ": " + words})
}

// amend changes what is recorded of an instance, but not its state.
func (f *Fleet) amend(id string, change func(*Instance)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.instances[id]
	if !ok {
		return &NotFoundError{IDs: []string{id}}
	}
	before := e.Instance
	change(&e.Instance)
	if err := f.save(); err != nil {
		e.Instance = before
		return err
	}
	return nil
}

// find is the instance that a caller names, which must not have ended.
func (f *Fleet) find(id string) (Instance, error) {
	i, ok := f.get(id)
	if !ok {
		return i, &NotFoundError{IDs: []string{id}}
	}
	if slices.Contains([]State{ShuttingDown, Terminated}, i.State) {
		return i, &StateError{ID: id, State: i.State}
	}
	return i, nil
}
