package autoscaling

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
)

// rollingUpdate is what UpdatePolicy says of rolling updates.
type rollingUpdate resource.RollingUpdate

// check refuses what cannot be carried out.
func (u rollingUpdate) check() error {
	if _, err := u.pause(); err != nil {
		return err
	}
	switch {
	case u.MinActiveInstancesPercent != nil && *u.MinActiveInstancesPercent != 100:
		return errors.New("the lab does not support MinActiveInstancesPercent of the UpdatePolicy AutoScalingRollingUpdate")
	case u.batch() < 1 || u.batch() > 100:
		return fmt.Errorf("the MaxBatchSize of the UpdatePolicy is %d: want 1 to 100", u.batch())
	case u.percent() < 0 || u.percent() > 100:
		return fmt.Errorf("the MinSuccessfulInstancesPercent of the UpdatePolicy is %d: want 0 to 100", u.percent())
	}
	for _, process := range u.SuspendProcesses {
		if !slices.Contains(processes(), process) {
			return fmt.Errorf("the UpdatePolicy suspends %s: want one of %v", process, processes())
		}
	}
	return nil
}

func (u rollingUpdate) batch() int {
	if u.MaxBatchSize == nil {
		return 1
	}
	return *u.MaxBatchSize
}

func (u rollingUpdate) percent() int {
	if u.MinSuccessfulInstancesPercent == nil {
		return 100
	}
	return *u.MinSuccessfulInstancesPercent
}

// pause is how long a batch has to signal, or is waited for.
func (u rollingUpdate) pause() (time.Duration, error) {
	switch {
	case u.PauseTime == "" && u.WaitOnResourceSignals:
		return 5 * time.Minute, nil
	case u.PauseTime == "":
		return 0, nil
	}
	pause, err := resource.Duration(u.PauseTime)
	if err == nil && pause > time.Hour {
		err = fmt.Errorf("want an hour at most, not %q", u.PauseTime)
	}
	if err != nil {
		return 0, fmt.Errorf("the PauseTime of the UpdatePolicy: %w", err)
	}
	return pause, nil
}

// roll is a rolling update that is under way, or has failed and left its batch behind.
type roll struct {
	Token     string    `json:"token"`
	Began     time.Time `json:"began"`
	Min       int       `json:"min"` // the group's sizes without what the update adds to them
	Desired   int       `json:"desired"`
	Old       []string  `json:"old,omitempty"`       // instances that are still to be replaced
	Suspended []string  `json:"suspended,omitempty"` // processes, by the update
	Batch     []string  `json:"batch,omitempty"`     // instances that were terminated last
	Awaited   int       `json:"awaited,omitempty"`   // new ones whose signals are waited for
}

// finishRoll undoes what a rolling update has changed besides its instances.
func (g *group) finishRoll() {
	if g.Roll != nil {
		g.resume(g.Roll.Suspended)
		g.Roll = nil
	}
}

// update is one run of a rolling update.
type update struct {
	handler groupHandler
	id      string
	request resource.Request
	policy  rollingUpdate
	wanted  func(*group) (*group, error)
}

// run carries the update out. It goes on where an earlier run of the same request was killed.
// When it fails the group stays as it is, for the rollback: that is another rolling update,
// which puts the sizes right.
func (u update) run(ctx context.Context) error {
	var over, waits bool
	err := u.handler.Groups.edit(u.id, func(found *group) error {
		err := u.begin(found)
		over, waits = found.Roll == nil, found.Roll != nil && (found.Roll.Awaited > 0 || len(found.Roll.Batch) > 0)
		return err
	})
	for err == nil && !over {
		if waits {
			err = u.await(ctx)
		}
		if err == nil && waits {
			// The next batch takes the signals away. A run that is killed then is not to wait for them.
			err = u.handler.Groups.edit(u.id, func(found *group) error {
				if found.Roll != nil {
					found.Roll.Batch, found.Roll.Awaited = nil, 0
				}
				return nil
			})
		}
		if err == nil {
			err = u.handler.Groups.edit(u.id, func(found *group) error {
				over = u.next(found)
				return nil
			})
		}
		waits = true
	}
	return err
}

// begin makes the group what it is to be, and finds which instances are not.
func (u update) begin(found *group) error {
	if found.Rolled == u.request.Token || found.Roll != nil && found.Roll.Token == u.request.Token {
		return nil // this run was killed, or what was to note its end
	}
	next, err := u.wanted(found)
	if err != nil {
		return err
	}
	template, err := u.handler.Groups.resolve(next.settings)
	if err != nil {
		return err
	}
	if u.policy.MinInstancesInService >= next.Max && next.Max > 0 {
		return query.Invalid("MinInstancesInService must be less than the autoscaling group's MaxSize")
	}
	began := u.handler.Groups.Now().UTC()
	r := &roll{Token: u.request.Token, Began: began, Min: next.Min, Desired: next.Desired}
	failed := found.Roll
	all := failed == nil && u.changed("LaunchTemplate", "MixedInstancesPolicy", "VPCZoneIdentifier")
	for _, m := range found.Members {
		if m.active() && (all || !m.matches(template) || failed != nil && m.Added.After(failed.Began)) {
			r.Old = append(r.Old, m.key())
		}
	}
	capacity := found.Desired
	found.become(u.handler.Groups, next, u.request)
	if len(r.Old) == 0 {
		found.finishRoll()
		return nil
	}
	// Until the end there are as many as there were, and of the new ones as many as are desired.
	found.Desired = min(max(capacity, found.Min), found.Max)
	if r.Suspended = found.suspend(u.policy.SuspendProcesses); failed != nil {
		r.Suspended = append(r.Suspended, failed.Suspended...)
	}
	found.Roll = r
	u.say("Rolling update initiated. Terminating %d obsolete instance(s) in batches of %d, while keeping at least %d instance(s) in service.%s",
		len(r.Old), u.policy.batch(), u.policy.MinInstancesInService, u.waiting(" Waiting on resource signals with a timeout of "+u.policy.PauseTime+" when new instances are added to the autoscaling group."))
	u.raise(found)
	return nil
}

// key names a member in an update: by its launch until it has an ID.
func (m *member) key() string {
	if m.ID == "" && m.Launch != nil {
		return m.Launch.Token
	}
	return m.ID
}

// changed tells whether one of the properties is another than before.
func (u update) changed(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return !reflect.DeepEqual(sourceOf(u.request.Properties[name]), sourceOf(u.request.Before[name]))
	})
}

// sourceOf is what of a property makes instances others: of a MixedInstancesPolicy its launch
// template, as the distribution is for those that come.
func sourceOf(property any) any {
	if policy, ok := property.(map[string]any); ok && policy["InstancesDistribution"] != nil {
		return policy["LaunchTemplate"]
	}
	return property
}

// raise adds to the capacity where a batch would leave too few in service.
func (u update) raise(found *group) {
	r := found.Roll
	good := found.count(func(m *member) bool { return m.active() && !r.has(m) })
	more := min(u.policy.MinInstancesInService+u.policy.batch()-found.Desired, found.Max-found.Desired, r.Desired-good)
	if more <= 0 {
		return
	}
	found.Desired += more
	found.Min = found.Desired
	r.Awaited = more
	u.request.Signals.Reset()
	u.say("Temporarily setting autoscaling group MinSize and DesiredCapacity to %d.", found.Desired)
}

func (r *roll) has(m *member) bool {
	return slices.Contains(r.Old, m.ID) || slices.Contains(r.Old, m.key())
}

// next terminates the next batch, or ends the update when there is none.
func (u update) next(found *group) (over bool) {
	r := found.Roll
	if r == nil {
		return true
	}
	var old []*member
	for _, m := range found.Members {
		if m.ID != "" && m.active() && r.has(m) {
			old = append(old, m)
		}
	}
	if len(old) == 0 {
		found.Desired = r.Desired
		found.Min = r.Min
		found.Rolled = r.Token
		found.finishRoll()
		return true
	}
	good := found.count(func(m *member) bool { return m.active() && !r.has(m) })
	n := min(u.policy.batch(), len(old), max(1, found.Desired-u.policy.MinInstancesInService))
	fresh := max(0, min(n, r.Desired-good))
	r.Batch, r.Awaited = nil, fresh
	for _, m := range old[:n] {
		m.Why = "an instance was taken out of service in response to a rolling update of CloudFormation"
		found.terminate(m, u.handler.Groups.Now())
		r.Batch = append(r.Batch, m.ID)
	}
	r.Old = slices.DeleteFunc(r.Old, func(id string) bool { return slices.Contains(r.Batch, id) })
	found.Desired += fresh - n
	found.Min = min(found.Min, found.Desired)
	u.request.Signals.Reset()
	u.say("Terminating instance(s) [%s]; replacing with %d new instance(s).", strings.Join(r.Batch, ","), fresh)
	return false
}

// await waits for the batch: until its old instances are gone and its new ones have signalled
// and are in service.
func (u update) await(ctx context.Context) error {
	pause, err := u.policy.pause()
	if err != nil {
		return err
	}
	var fresh int
	err = u.handler.Groups.await(ctx, u.id, func(found *group) (bool, error) {
		fresh = 0
		if found.Roll == nil {
			return true, nil
		}
		fresh = found.Roll.Awaited
		return !slices.ContainsFunc(found.Members, func(m *member) bool { return slices.Contains(found.Roll.Batch, m.ID) }), nil
	})
	if err != nil || fresh == 0 {
		return err
	}
	u.say("New instance(s) added to autoscaling group - Waiting on %d resource signal(s) with a timeout of %s.", fresh, u.policy.PauseTime)
	if u.policy.WaitOnResourceSignals {
		if err := u.request.Signals.Wait(ctx, fresh, u.policy.percent(), pause); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, max(pause, time.Minute))
	defer cancel()
	err = u.handler.Groups.await(limited, u.id, func(found *group) (bool, error) {
		in := found.count(func(m *member) bool { return m.State == inService && (found.Roll == nil || !found.Roll.has(m)) })
		return found.Roll == nil || in >= fresh && found.count((*member).active) == found.count(func(m *member) bool { return m.State == inService || found.Roll.has(m) }), nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && u.policy.percent() == 100:
		return fmt.Errorf("Group did not stabilize. New instances are not in service: %w", err) //nolint:staticcheck // CloudFormation's words
	case !u.policy.WaitOnResourceSignals:
		return retry.Wait(ctx, pause)
	}
	return nil
}

func (u update) waiting(words string) string {
	if u.policy.WaitOnResourceSignals {
		return words
	}
	return ""
}

func (u update) say(format string, args ...any) {
	if u.request.Progress != nil {
		u.request.Progress(fmt.Sprintf(format, args...))
	}
}
