package autoscaling

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// stuck is how long a refresh goes on without a replacement before it fails (EC2 Auto
// Scaling, "Instance refresh limitations").
const stuck = time.Hour

// refresh is an instance refresh.
type refresh struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"`
	Reason   string    `json:"reason,omitempty"`
	Start    time.Time `json:"start,omitzero"`
	End      time.Time `json:"end,omitzero"`
	Progress time.Time `json:"progress,omitzero"` // when an instance was replaced last
	Total    int       `json:"total"`
	Old      []string  `json:"old,omitempty"` // instances that are still to be replaced

	MinHealthy   int  `json:"minHealthy"` // percentages of the desired capacity
	MaxHealthy   int  `json:"maxHealthy"`
	Warmup       int  `json:"warmup"` // seconds
	SkipMatching bool `json:"skipMatching,omitempty"`
	AutoRollback bool `json:"autoRollback,omitempty"`

	Protected string `json:"protected,omitempty"` // what happens to those: Wait, Ignore or Refresh

	Wanted *source `json:"wanted,omitempty"` // the desired configuration
	Before source  `json:"before"`           // what a rollback goes back to

	RollbackStart  time.Time `json:"rollbackStart,omitzero"`
	RollbackReason string    `json:"rollbackReason,omitempty"`
	Undone         int       `json:"undone,omitempty"` // percentage that was complete when the rollback began
	UndoneLeft     int       `json:"undoneLeft,omitempty"`
}

// source is what instances are launched from.
type source struct {
	Template *templateRef `json:"template,omitempty"`
	Mixed    *mixed       `json:"mixed,omitempty"`
}

// Statuses of a refresh.
const (
	refreshPending  = "Pending"
	refreshing      = "InProgress"
	cancelling      = "Cancelling"
	cancelled       = "Cancelled"
	rollingBack     = "RollbackInProgress"
	rolledBack      = "RollbackSuccessful"
	rollbackFailed  = "RollbackFailed"
	refreshDone     = successful
	refreshHasError = failed
)

func (r *refresh) open() bool {
	return slices.Contains([]string{refreshPending, refreshing, cancelling, rollingBack}, r.Status)
}

// refreshing is the refresh that is under way, or nil.
func (g *group) refreshing() *refresh {
	if n := len(g.Refreshes); n > 0 && g.Refreshes[n-1].open() {
		return g.Refreshes[n-1]
	}
	return nil
}

// wanted are the settings that instances are launched by: of a refresh, its own.
func (g *group) wanted() settings {
	s := g.settings
	if r := g.refreshing(); r != nil && r.Wanted != nil && r.Status != rollingBack {
		s.Template, s.Mixed = r.Wanted.Template, r.Wanted.Mixed
	}
	return s
}

// surplus is how many instances above the desired capacity a refresh may have; 0: it
// terminates before it launches.
func (r *refresh) surplus(desired int) int {
	if r.MaxHealthy <= 100 {
		return 0
	}
	return max(1, desired*(r.MaxHealthy-100)/100)
}

// complete is the percentage that is done.
func (r *refresh) complete() int {
	if r.Total == 0 {
		return 100
	}
	return 100 * (r.Total - len(r.Old)) / r.Total
}

func (g *Groups) startRefresh(name string, r *refresh) error {
	return g.edit(name, func(found *group) error {
		if found.refreshing() != nil {
			return query.Refuse("InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.")
		}
		if !found.launches() {
			return query.Invalid("An instance refresh needs a group with a launch template.")
		}
		if r.Warmup < 0 {
			if r.Warmup = 0; found.Warmup != nil {
				r.Warmup = *found.Warmup
			} else {
				r.Warmup = found.Grace
			}
		}
		r.ID, r.Status, r.Before = uuid.NewString(), refreshPending, source{found.Template, found.Mixed}
		found.Refreshes = append(found.Refreshes, r)
		if _, err := g.resolve(found.wanted()); err != nil {
			return err
		}
		return nil
	})
}

// stopRefresh cancels the refresh that is under way, or rolls it back.
func (g *Groups) stopRefresh(name string, back bool) (id string, err error) {
	err = g.edit(name, func(found *group) error {
		r := found.refreshing()
		if r == nil || r.Status == cancelling {
			return query.Refuse("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto Scaling group %s", name)
		}
		if id = r.ID; !back {
			r.Status, r.Reason = cancelling, "Cancelled by a user request."
			return nil
		}
		return g.rollBack(found, r, "User requested rollback.")
	})
	return id, err
}

// rollBack has what a refresh has replaced replaced again, by what was before.
func (g *Groups) rollBack(group *group, r *refresh, why string) error {
	switch {
	case r.Status == rollingBack:
		return query.Refuse("IrreversibleInstanceRefresh", "The instance refresh is being rolled back already.")
	case r.Wanted == nil:
		return query.Refuse("IrreversibleInstanceRefresh", "The instance refresh has no desired configuration to roll back from.")
	}
	before := group.settings
	before.Template, before.Mixed = r.Before.Template, r.Before.Mixed
	template, err := g.resolve(before)
	if err != nil {
		return err
	}
	r.RollbackStart, r.RollbackReason, r.Undone, r.UndoneLeft = g.Now().UTC(), why, r.complete(), len(r.Old)
	r.Status, r.Progress, r.Old = rollingBack, g.Now().UTC(), nil
	for _, m := range group.Members {
		if m.Leaving = ""; !m.ending() && m.ID != "" && !m.matches(template) {
			r.Old = append(r.Old, m.ID)
		}
	}
	r.Total = len(r.Old)
	return nil
}

// matches tells whether the member was launched from the template's version.
func (m *member) matches(template LaunchTemplate) bool {
	return m.Launch != nil && m.Launch.Template.ID == template.ID && m.Launch.Template.Version == template.Version
}

// refresh takes the refresh that is under way a step on.
func (g *Groups) refresh(group *group, now time.Time, soonest func(time.Time)) {
	r := group.refreshing()
	if r == nil || group.suspended("InstanceRefresh") {
		return
	}
	if r.Status == refreshPending {
		g.begin(group, r, now)
	}
	left := len(r.Old)
	r.Old = slices.DeleteFunc(r.Old, func(id string) bool {
		return !slices.ContainsFunc(group.Members, func(m *member) bool { return m.ID == id && !m.ending() })
	})
	if len(r.Old) < left {
		r.Progress = now.UTC()
	}
	switch {
	case r.Status == cancelling:
		for _, m := range group.Members {
			m.Leaving = ""
		}
		r.close(now, cancelled, r.Reason)
		return
	case len(r.Old) == 0 && group.settled(now, soonest):
		group.refreshed(r, now)
		return
	case now.Sub(r.Progress) >= stuck:
		g.giveUp(group, r, now)
		return
	}
	soonest(r.Progress.Add(stuck))
	group.replace(r, now)
}

// begin finds what a refresh has to replace.
func (g *Groups) begin(group *group, r *refresh, now time.Time) {
	r.Status, r.Start, r.Progress = refreshing, now.UTC(), now.UTC()
	template, err := g.resolve(group.wanted())
	if err != nil {
		r.close(now, refreshHasError, reason(err))
		return
	}
	for _, m := range group.Members {
		if m.Protect && r.Protected == "Ignore" {
			continue
		}
		if m.ending() || m.warm() && m.State != warmedStopped && m.State != warmedRunning || m.ID == "" {
			continue
		}
		if !r.SkipMatching || !m.matches(template) {
			r.Old = append(r.Old, m.ID)
		}
	}
	r.Total = len(r.Old)
}

// settled tells whether the group is at its desired capacity with every member warmed up.
func (g *group) settled(now time.Time, soonest func(time.Time)) bool {
	ready := 0
	for _, m := range g.Members {
		if g.ready(m, now) {
			ready++
		} else if m.State == inService {
			soonest(g.warmAt(m))
		}
	}
	return ready >= g.Desired
}

// replace has old members replaced: as many at once as leave enough healthy ones.
func (g *group) replace(r *refresh, now time.Time) {
	old := func(m *member) bool { return slices.Contains(r.Old, m.ID) && !m.ending() }
	healthy := g.count(func(m *member) bool { return g.ready(m, now) || m.State == inService && old(m) })
	need := (g.Desired*r.MinHealthy + 99) / 100
	surplus := r.surplus(g.Desired)
	room := healthy - need
	if surplus > 0 {
		room = surplus - g.count(func(m *member) bool { return m.active() && m.Leaving != "" })
	} else if room <= 0 && healthy >= g.Desired {
		room = 1 // or nothing would ever move (EC2 Auto Scaling, "Minimum healthy percentage")
	}
	for _, m := range slices.Clone(g.Members) {
		switch {
		case !old(m) || m.Leaving != "" || m.Protect && r.Protected == "Wait":
		case m.warm():
			m.Why = "an instance was taken out of the warm pool in response to an instance refresh"
			g.terminate(m, now)
		case m.State != inService:
			m.Why = "an instance was taken out of service in response to an instance refresh"
			g.terminate(m, now)
		case room <= 0:
		case surplus > 0:
			m.Leaving = "an instance refresh"
			room--
		default:
			m.Why = "an instance was taken out of service in response to an instance refresh"
			g.terminate(m, now)
			room--
		}
	}
}

// refreshed ends a refresh that has replaced everything.
func (g *group) refreshed(r *refresh, now time.Time) {
	if r.Status == rollingBack {
		r.close(now, rolledBack, "")
		return
	}
	if r.Wanted != nil {
		g.Template, g.Mixed = r.Wanted.Template, r.Wanted.Mixed
	}
	r.close(now, refreshDone, "")
}

// giveUp ends a refresh that comes to nothing, or rolls it back.
func (g *Groups) giveUp(group *group, r *refresh, now time.Time) {
	why := "No instance was replaced for an hour. The scaling activities tell why."
	if r.Status == refreshing && r.AutoRollback {
		if err := g.rollBack(group, r, why); err == nil {
			return
		}
	}
	status := refreshHasError
	if r.Status == rollingBack {
		status = rollbackFailed
	}
	for _, m := range group.Members {
		m.Leaving = ""
	}
	r.close(now, status, why)
}

func (r *refresh) close(now time.Time, status, why string) {
	r.Status, r.Reason, r.End = status, why, now.UTC()
}
