package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// grace is what processes in the lab get to end by themselves.
const grace = 10 * time.Second

// Removal is what `down` is asked for.
type Removal struct {
	Dir   state.Dir
	Name  string // empty: the lab's own, or DefaultName
	Plan  vpc.Plan
	Steps progress.Steps
}

// Down ends everything inside the lab, its own or not, and removes the lab. It answers
// whether there was one.
func Down(ctx context.Context, r Removal) (removed bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("needs root, as `up` did; try sudo")
	}
	lab, err := r.Dir.Load()
	if errors.Is(err, state.ErrNoLab) {
		return r.orphan(ctx)
	}
	if err != nil {
		return false, err
	}
	if r.Name != "" && r.Name != lab.Name {
		return false, fmt.Errorf("the lab in %s is named %q, not %q", r.Dir, lab.Name, r.Name)
	}
	unlock, err := r.Dir.Lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	err = r.Steps.Do("taking lab "+lab.Name+" down", func() error { return remove(ctx, r.Dir, lab.Name) })
	return err == nil, err
}

// orphan removes the namespace of a lab whose state directory somebody has deleted.
func (r Removal) orphan(ctx context.Context) (bool, error) {
	name := r.Name
	if name == "" {
		name = DefaultName
	}
	there, err := namespace.Exists(name)
	if err != nil || !there || ownerOf(name, r.Plan) != owner(r.Dir) {
		return false, err
	}
	err = r.Steps.Do("removing what is left of lab "+name, func() error { return removeNamespace(ctx, name) })
	return err == nil, err
}

// remove takes a lab away: first the daemon, which would mend what else goes, the state
// directory last, so that a removal cut short can be carried on.
func remove(ctx context.Context, dir state.Dir, name string) error {
	if err := stopDaemon(ctx, dir); err != nil {
		return err
	}
	if err := removeNamespace(ctx, name); err != nil {
		return err
	}
	if err := killStrays(ctx, dir); err != nil {
		return err
	}
	if err := dir.Remove(); err != nil {
		return fmt.Errorf("remove the lab's state directory: %w", err)
	}
	return nil
}

func removeNamespace(ctx context.Context, name string) error {
	there, err := namespace.Exists(name)
	if err != nil {
		return err
	}
	if there {
		if inside, err := namespace.Holds(name, os.Getpid()); err != nil || inside {
			return errors.Join(err, errors.New("this command runs inside the lab itself: run it outside"))
		}
		if err := namespace.Clear(ctx, name, grace); err != nil {
			return err
		}
	}
	return namespace.Delete(name)
}

// killStrays ends virtual machines that are not in the namespace any more: somebody
// deleted that while they ran.
func killStrays(ctx context.Context, dir state.Dir) error {
	entries, err := os.ReadDir(dir.Instances())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for virtual machines: %w", err)
	}
	for _, e := range entries {
		machine, err := vm.Hypervisor{}.Adopt(ctx, filepath.Join(dir.Instances(), e.Name()))
		if errors.Is(err, vm.ErrNotRunning) {
			continue
		}
		if err != nil {
			return err
		}
		machine.Kill()
		select {
		case <-machine.Gone():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
