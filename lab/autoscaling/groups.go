package autoscaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Fleet is the instances; fleet.Fleet documents the methods.
type Fleet interface {
	Instances() []fleet.Instance
	Changed() <-chan struct{}
	Terminate(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Stop(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Start(ids []string) ([]fleet.Change, error)
	Target(id, group, state string) error
}

// Groups are the groups that exist. They are recorded at Path before anything is done, and
// are safe for concurrent use.
type Groups struct {
	Path     string
	Fleet    Fleet
	Launcher Launcher                           // nil: groups launch nothing
	Subnet   func(id string) (vpc.Subnet, bool) // finds a subnet that instances may be in
	Now      func() time.Time
	Logger   *zap.Logger

	mu      sync.Mutex
	list    []*group // in the order of their names
	changed chan struct{}
	told    chan struct{} // closed at the next change of the record
}

// Open reads the record.
func (g *Groups) Open() error {
	g.changed, g.told = make(chan struct{}, 1), make(chan struct{})
	data, err := os.ReadFile(g.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the Auto Scaling groups: %w", err)
	}
	if err := json.Unmarshal(data, &g.list); err != nil {
		return fmt.Errorf("read the Auto Scaling groups from %s: %w", g.Path, err)
	}
	for _, group := range g.list {
		if group.HealthCheck == "" { // a record of before groups launched
			group.defaults()
		}
	}
	return nil
}

// Run drives every group towards what is recorded of it, until the context ends.
func (g *Groups) Run(ctx context.Context) {
	backoff := retry.Backoff{First: 200 * time.Millisecond, Limit: 10 * time.Second}
	for {
		moved := g.Fleet.Changed() // before the look, so that nothing is missed
		next, err := g.step(ctx)
		wait := time.Hour // or until something changes
		if err == nil {
			backoff.Reset()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = backoff.Next()
			g.Logger.Warn("the groups are held up; trying again", zap.Error(err), zap.Duration("after", wait))
			moved = nil
		case !next.IsZero():
			wait = next.Sub(g.Now())
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.changed:
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step does what is due and answers when the next thing is; zero when nothing is to be
// awaited but a change.
func (g *Groups) step(ctx context.Context) (next time.Time, err error) {
	err = g.change(func() error {
		now := g.Now()
		soonest := func(at time.Time) {
			// What was due already waits for something else, such as a process that is suspended.
			if at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		for _, group := range g.list {
			soonest(group.expire(now))
			g.drive(group, now, soonest)
		}
		return nil
	})
	return next, errors.Join(err, g.launch(ctx))
}

// change changes the groups, records them and makes the fleet follow. When do or the record
// fails nothing has changed.
func (g *Groups) change(do func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, err := json.Marshal(g.list)
	if err != nil {
		return fmt.Errorf("change the Auto Scaling groups: %w", err)
	}
	g.look()
	err = do()
	for _, group := range g.list {
		group.settle(g.Now())
	}
	g.list = slices.DeleteFunc(g.list, func(other *group) bool { return other.Deleting && len(other.Members) == 0 })
	if after, _ := json.Marshal(g.list); err == nil && string(after) != string(before) {
		if err = state.WriteJSON(g.Path, g.list, 0o600); err == nil {
			g.wake()
			close(g.told)
			g.told = make(chan struct{})
		}
	}
	if err != nil {
		var old []*group
		if undo := json.Unmarshal(before, &old); undo != nil {
			return errors.Join(err, undo)
		}
		g.list = old
		return err
	}
	return g.follow()
}

// await returns when done says so. It is asked whenever the record has changed.
func (g *Groups) await(ctx context.Context, name string, done func(*group) (bool, error)) error {
	for {
		g.mu.Lock()
		told := g.told
		found, err := g.find(name)
		over := false
		if err == nil {
			over, err = done(found)
		}
		g.mu.Unlock()
		if over || err != nil {
			return err
		}
		select {
		case <-told:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow makes the fleet do what the record says, and tells instances their target state.
func (g *Groups) follow() error {
	instances := g.instances()
	var failed []error
	for _, group := range g.list {
		for _, m := range group.Members {
			i, ok := instances[m.ID]
			if !ok {
				continue
			}
			if i.Notices.TargetState != group.target(m) {
				failed = append(failed, g.Fleet.Target(m.ID, group.Name, group.target(m)))
			}
			var err error
			switch {
			case m.goes() && i.State != fleet.ShuttingDown && i.State != fleet.Terminated:
				_, err = g.Fleet.Terminate([]string{m.ID}, false)
			case m.State == warmedPendingProceed && group.pooled() == poolStopped && i.State == fleet.Running:
				_, err = g.Fleet.Stop([]string{m.ID}, false)
			case m.State == pending && i.State == fleet.Stopped:
				_, err = g.Fleet.Start([]string{m.ID})
			}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (g *Groups) instances() map[string]fleet.Instance {
	all := map[string]fleet.Instance{}
	for _, i := range g.Fleet.Instances() {
		all[i.ID] = i
	}
	return all
}

// wake makes Run look again.
func (g *Groups) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *Groups) find(name string) (*group, error) {
	for _, group := range g.list {
		if group.Name == name {
			return group, nil
		}
	}
	return nil, query.Invalid("AutoScalingGroup name not found - AutoScalingGroup '%s' not found", name)
}

// edit changes one group, which must not be about to be deleted.
func (g *Groups) edit(name string, do func(*group) error) error {
	return g.change(func() error {
		found, err := g.find(name)
		if err != nil {
			return err
		}
		if found.Deleting {
			return query.Refuse("ScalingActivityInProgress", "You cannot change an AutoScalingGroup that is being deleted: %s", name)
		}
		return do(found)
	})
}

// member finds the group that an instance is in.
func (g *Groups) member(id string) (*group, *member, bool) {
	for _, group := range g.list {
		for _, m := range group.Members {
			if m.ID == id && id != "" {
				return group, m, true
			}
		}
	}
	return nil, nil, false
}

func (g *Groups) create(made *group) error {
	return g.change(func() error {
		if _, err := g.find(made.Name); err == nil {
			return query.Refuse("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name %s already exists", made.Name)
		}
		made.cause(g.Now(), "a user request created an AutoScalingGroup changing the desired capacity from 0 to %d", made.Desired)
		g.list = append(g.list, made)
		slices.SortFunc(g.list, func(a, b *group) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
}

// made tells whether the group was made by the request with the token.
func (g *Groups) made(name, token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, err := g.find(name)
	return err == nil && found.Token == token
}

// remove deletes a group; with force its instances are terminated at once, and the group is
// listed until they are gone.
func (g *Groups) remove(name string, force bool) error {
	return g.change(func() error {
		found, err := g.find(name)
		if err != nil {
			return err
		}
		if len(found.Members) > 0 && !force {
			return query.Refuse("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
		}
		found.Deleting, found.Min, found.Desired, found.Pool = true, 0, 0, nil
		for _, m := range found.Members {
			if m.ID != "" {
				m.end("a user request force-deleted AutoScalingGroup %s", name)
			}
		}
		return nil
	})
}
