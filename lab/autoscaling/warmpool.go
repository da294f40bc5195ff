package autoscaling

import (
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// States of the instances of a pool.
const (
	poolStopped = "Stopped"
	poolRunning = "Running"
)

// pool is a warm pool.
type pool struct {
	Min      int    `json:"min"`
	Prepared *int   `json:"prepared,omitempty"` // most instances of pool and group; nil: the group's maximum
	State    string `json:"state"`              // poolStopped or poolRunning
	Reuse    bool   `json:"reuse,omitempty"`    // on scale-in
	Deleting bool   `json:"deleting,omitempty"`
}

// pooled is the state of the pool's instances.
func (g *group) pooled() string {
	if g.Pool == nil {
		return poolStopped
	}
	return g.Pool.State
}

// poolSize is how many instances the pool is to have.
func (g *group) poolSize() int {
	if g.Pool == nil || g.Pool.Deleting {
		return 0
	}
	prepared := g.Max
	if g.Pool.Prepared != nil {
		prepared = *g.Pool.Prepared
	}
	return max(g.Pool.Min, prepared-g.Desired, 0)
}

// takeWarm is the next member of the pool that can go into service.
func (g *group) takeWarm() *member {
	for _, m := range g.Members {
		if m.State == warmedStopped || m.State == warmedRunning {
			return m
		}
	}
	return nil
}

// fill takes the pool to its size.
func (g *Groups) fill(group *group, now time.Time) {
	in := group.count(func(m *member) bool { return m.warm() && !m.ending() })
	want := group.poolSize()
	if short := group.Desired + group.extra() - group.count((*member).active); short > 0 {
		want = 0 // the group comes first
		in = 0
	}
	for ; in < want && !group.suspended("Launch") && g.Launcher != nil && !now.Before(group.RetryAt); in++ {
		cause := join(group.Cause, at(now, "an instance was started in response to a difference between desired and actual warm pool capacity, increasing the warm pool capacity from %d to %d", in, in+1))
		if !g.order(group, now, cause, warmedPending) {
			return
		}
	}
	for _, m := range group.Members {
		if in <= want || group.suspended("Terminate") {
			break
		}
		if m.warm() && !m.ending() && m.ID != "" {
			m.Why = at(now, "an instance was taken out of the warm pool in response to a difference between desired and actual warm pool capacity, shrinking the warm pool capacity from %d to %d", in, in-1)
			group.terminate(m, now)
			in--
		}
	}
	if group.Pool != nil && group.Pool.Deleting && group.count((*member).warm) == 0 {
		group.Pool = nil
	}
}

func (g *Groups) putPool(name string, change func(*pool) error) error {
	return g.edit(name, func(found *group) error {
		if found.Mixed != nil && found.Mixed.Percentage < 100 {
			return query.Invalid("You can't add a warm pool to an Auto Scaling group that has a mixed instances policy or that requests Spot Instances.")
		}
		if !found.launches() {
			return query.Invalid("You can't add a warm pool to an Auto Scaling group that has no launch template.")
		}
		made := pool{State: poolStopped}
		if found.Pool != nil {
			made = *found.Pool
			made.Deleting = false
		}
		if err := change(&made); err != nil {
			return err
		}
		found.Pool = &made
		return nil
	})
}

// removePool deletes the pool; with force its instances are not waited for.
func (g *Groups) removePool(name string, force bool) error {
	return g.edit(name, func(found *group) error {
		if found.Pool == nil {
			return query.Invalid("No warm pool found for Auto Scaling group %s", name)
		}
		if force {
			for _, m := range found.Members {
				if m.warm() && m.ID != "" {
					m.end("a user request force-deleted the warm pool")
				}
			}
		}
		if found.Pool.Deleting = true; found.count((*member).warm) == 0 {
			found.Pool = nil
		}
		return nil
	})
}
