// Package autoscaling is Amazon EC2 Auto Scaling as far as a node's life needs it: groups
// whose instances are attached by hand, lifecycle hooks that hold up the launch and the
// termination of an instance, and the lifecycle state that the instance's metadata tells.
// Groups do not scale: they have no launch template, and nothing is replaced.
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
)

// Transitions that hooks hold up, as PutLifecycleHook names them.
const (
	launching   = "autoscaling:EC2_INSTANCE_LAUNCHING"
	terminating = "autoscaling:EC2_INSTANCE_TERMINATING"
)

// Lifecycle states of an instance in a group. An instance that is attached goes to
// InService, one that is terminated by its group to Terminating:Proceed, both by way of a
// Wait if there are hooks.
const (
	pendingWait        = "Pending:Wait"
	inService          = "InService"
	terminatingWait    = "Terminating:Wait"
	terminatingProceed = "Terminating:Proceed"
)

// Results of a lifecycle action.
const (
	proceed = "CONTINUE"
	abandon = "ABANDON"
)

// Fleet is the instances; fleet.Fleet documents the methods.
type Fleet interface {
	Instances() []fleet.Instance
	Terminate(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Target(id, group, state string) error
}

// Groups are the groups that exist. They are recorded at Path before anything is done, and
// are safe for concurrent use.
type Groups struct {
	Path   string
	Fleet  Fleet
	Now    func() time.Time
	Logger *zap.Logger

	mu      sync.Mutex
	list    []*group // in the order of their names
	changed chan struct{}
}

type group struct {
	Name    string    `json:"name"`
	Max     int       `json:"max"`
	Subnets string    `json:"subnets,omitempty"`
	Created time.Time `json:"created"`
	Hooks   []hook    `json:"hooks,omitempty"`
	Members []*member `json:"members,omitempty"`
}

type member struct {
	ID      string   `json:"id"`
	State   string   `json:"state"`
	Actions []action `json:"actions,omitempty"` // that hold the member up
}

// Open reads the record.
func (g *Groups) Open() error {
	g.changed = make(chan struct{}, 1)
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
	return nil
}

// Run ends lifecycle actions whose time is up, until the context ends.
func (g *Groups) Run(ctx context.Context) {
	backoff := retry.Backoff{First: 200 * time.Millisecond, Limit: 10 * time.Second}
	for {
		next, err := g.expire()
		wait := time.Hour // or until something changes
		if err == nil {
			backoff.Reset()
		}
		switch {
		case err != nil:
			wait = backoff.Next()
			g.Logger.Warn("lifecycle actions are held up; trying again", zap.Error(err), zap.Duration("after", wait))
		case !next.IsZero():
			wait = next.Sub(g.Now())
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// expire ends the actions whose time is up and answers when the next one's is; zero when
// there is none.
func (g *Groups) expire() (next time.Time, err error) {
	err = g.change(func() error {
		now := g.Now()
		for _, group := range g.list {
			for _, m := range group.Members {
				for _, a := range slices.Clone(m.Actions) {
					switch {
					case !now.Before(a.Deadline):
						m.finish(a.Token, a.Hook.Default)
					case next.IsZero() || a.Deadline.Before(next):
						next = a.Deadline
					}
				}
			}
		}
		return nil
	})
	return next, err
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
	if after, _ := json.Marshal(g.list); err == nil && string(after) != string(before) {
		err = state.WriteJSON(g.Path, g.list, 0o600)
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

// look takes note of the instances that are ending or gone, whoever ended them.
func (g *Groups) look() {
	instances := g.instances()
	for _, group := range g.list {
		group.Members = slices.DeleteFunc(group.Members, func(m *member) bool {
			i, ok := instances[m.ID]
			if ok && i.State == fleet.ShuttingDown {
				m.State, m.Actions = terminatingProceed, nil
			}
			return !ok || i.State == fleet.Terminated
		})
	}
}

// follow terminates what is to be, and tells instances their target state.
func (g *Groups) follow() error {
	instances := g.instances()
	var failed []error
	for _, group := range g.list {
		for _, m := range group.Members {
			i := instances[m.ID]
			if i.Notices.TargetState != m.target() {
				failed = append(failed, g.Fleet.Target(m.ID, group.Name, m.target()))
			}
			if m.State == terminatingProceed && i.State != fleet.ShuttingDown {
				_, err := g.Fleet.Terminate([]string{m.ID}, false)
				failed = append(failed, err)
			}
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

// wake makes Run look for the next deadline.
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

// member finds the group that an instance is in.
func (g *Groups) member(id string) (*group, *member, bool) {
	for _, group := range g.list {
		for _, m := range group.Members {
			if m.ID == id {
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
		g.list = append(g.list, made)
		slices.SortFunc(g.list, func(a, b *group) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
}

// remove deletes a group; with force its instances are terminated at once.
func (g *Groups) remove(name string, force bool) error {
	var ids []string
	err := g.change(func() error {
		found, err := g.find(name)
		if err != nil {
			return err
		}
		if len(found.Members) > 0 && !force {
			return query.Refuse("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
		}
		for _, m := range found.Members {
			ids = append(ids, m.ID)
		}
		g.list = slices.DeleteFunc(g.list, func(other *group) bool { return other.Name == name })
		return nil
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	_, err = g.Fleet.Terminate(ids, false)
	return err
}

// attach takes running instances into a group: all, or none.
func (g *Groups) attach(name string, ids []string) error {
	defer g.wake()
	return g.change(func() error {
		group, err := g.find(name)
		if err != nil {
			return err
		}
		instances := g.instances()
		for _, id := range ids {
			i, ok := instances[id]
			other, _, attached := g.member(id)
			switch {
			case !ok:
				return query.Invalid("Invalid Instance ID(s): [%s] specified. Please provide valid instance IDs.", id)
			case attached:
				return query.Invalid("Instance %s is already part of AutoScalingGroup:%s", id, other.Name)
			case i.State != fleet.Running:
				return query.Invalid("Instance %s is not in correct state. Instance(s) must be in 'running' state.", id)
			}
			m := &member{ID: id}
			m.begin(group.Hooks, launching, g.Now())
			group.Members = append(group.Members, m)
		}
		if n := len(group.Members); n > group.Max {
			return query.Invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", n, group.Max)
		}
		return nil
	})
}

// terminate takes an instance out of its group and ends it, once its hooks let it go.
func (g *Groups) terminate(id string) (name string, err error) {
	defer g.wake()
	err = g.change(func() error {
		group, m, ok := g.member(id)
		if !ok {
			return query.Invalid("Instance Id not found - No managed instance found for instance ID: %s", id)
		}
		name = group.Name
		if m.target() != "Terminated" {
			m.begin(group.Hooks, terminating, g.Now())
		}
		return nil
	})
	return name, err
}

// target is the lifecycle state that the member is taken to, as its metadata tells it.
func (m *member) target() string {
	if m.State == terminatingWait || m.State == terminatingProceed {
		return "Terminated"
	}
	return inService
}
