package autoscaling

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

// look takes note of how the instances are, whoever made them so.
func (g *Groups) look() {
	instances, now := g.instances(), g.Now()
	for _, group := range g.list {
		for _, m := range group.Members {
			if i, ok := instances[m.ID]; m.ID != "" && (!ok || i.State != fleet.Terminated) {
				group.see(m, i, ok, now)
			} else if m.ID != "" {
				group.gone(m, i, now)
			}
		}
		group.Members = slices.DeleteFunc(group.Members, func(m *member) bool {
			i, ok := instances[m.ID]
			return m.ID != "" && (!ok || i.State == fleet.Terminated)
		})
		if !group.launches() {
			group.Desired = group.count((*member).active)
		}
	}
}

// ended is what a health check says of an instance that is gone, or halted.
const ended = "an EC2 health check indicating it has been terminated or stopped"

// see takes a member to the state that its instance lets it have.
func (g *group) see(m *member, i fleet.Instance, there bool, now time.Time) {
	switch {
	case !there:
		g.gone(m, i, now)
	case i.State == fleet.ShuttingDown:
		if m.Arrival != "" && m.Failed == "" {
			m.Failed = "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: " + i.Reason.Message
		}
		m.end("an instance was taken out of service in response to " + ended)
	case m.State == pending && i.State == fleet.Running:
		m.begin(g.Hooks, launching, inService, now)
	case m.State == warmedPending && i.State == fleet.Running:
		m.begin(g.Hooks, launching, warmedPendingProceed, now)
	case m.State == warmedPendingProceed && g.pooled() == poolRunning && i.State == fleet.Running:
		m.State = warmedRunning
	case m.State == warmedPendingProceed && i.State == fleet.Stopped:
		m.State = warmedStopped
	case m.active() && m.State != pending && (i.State == fleet.Stopped || i.State == fleet.Stopping) && !g.suspended("HealthCheck"):
		m.Sick = ended
	case m.State == pending && i.State == fleet.Stopped && i.Reason.Code == fleet.ReasonServerError:
		m.Sick, m.Failed = ended, "Instance failed to start. Reason: "+i.Reason.Message // from the pool
	case g.Rebalance && m.State == inService && m.Leaving == "" && (!i.Notices.Rebalance.IsZero() || i.Notices.Interruption != nil) && i.Spot != "":
		m.Leaving = "an EC2 instance rebalance recommendation"
	}
}

// gone closes the books on a member whose instance has ended.
func (g *group) gone(m *member, i fleet.Instance, now time.Time) {
	if m.Arrival != "" && m.Failed == "" {
		m.Failed = "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: " + i.Reason.Message
	}
	m.end("an instance was taken out of service in response to " + ended)
	g.record(m, now)
	g.doing(m.Departure).ends(now, successful, "")
}

// settle brings the activities in line with the members.
func (g *group) settle(now time.Time) {
	for _, m := range g.Members {
		g.record(m, now)
	}
}

func (g *group) record(m *member, now time.Time) {
	arrival := g.doing(m.Arrival)
	switch {
	case m.Arrival == "" || m.ID == "":
	case m.ending():
		if arrival.ends(now, failed, m.Failed); m.Failed == "" {
			arrival.ends(now, "Cancelled", "")
		} else {
			g.failed(now)
		}
		m.Arrival = ""
	case m.State == inService || m.State == warmedStopped || m.State == warmedRunning:
		arrival.ends(now, successful, "")
		m.Arrival = ""
		g.forgive()
	case len(m.Actions) > 0:
		arrival.Status = midAction
	}
	if m.State == inService && m.Served.IsZero() {
		m.Served = now.UTC()
	}
	if m.ending() && m.Departure == "" && m.ID != "" {
		m.Departure = g.begins(now, "Terminating EC2 instance: "+m.ID, causeOf(now, m.Why), inProgress, "").ID
	}
	if departure := g.doing(m.Departure); m.Departure != "" && departure.End.IsZero() {
		departure.Status = inProgress
		if len(m.Actions) > 0 {
			departure.Status = midAction
		}
	}
}

// Launches that fail are tried again after longer and longer times.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute
)

// failed counts a launch that has failed.
func (g *group) failed(now time.Time) {
	g.Failures++
	g.RetryAt = now.Add(min(firstRetry<<min(g.Failures-1, 20), lastRetry)).UTC()
}

// forgive forgets the launches that have failed.
func (g *group) forgive() { g.Failures, g.RetryAt = 0, time.Time{} }

// drive takes one group a step towards what is recorded of it.
func (g *Groups) drive(group *group, now time.Time, soonest func(time.Time)) {
	if group.Deleting {
		for _, m := range group.Members {
			if m.ID != "" {
				m.end("a user request force-deleted AutoScalingGroup %s", group.Name)
			}
		}
		return
	}
	group.retire(now)
	if !group.launches() {
		return
	}
	g.refresh(group, now, soonest)
	g.balance(group)
	g.scaleOut(group, now, soonest)
	g.scaleIn(group, now)
	group.release(now, soonest)
	g.fill(group, now)
}

// retire takes unhealthy members out of service.
func (g *group) retire(now time.Time) {
	if g.suspended("ReplaceUnhealthy") || g.suspended("Terminate") {
		return
	}
	for _, m := range g.Members {
		if m.Sick != "" && m.active() {
			m.Why = "an instance was taken out of service in response to " + m.Sick
			g.terminate(m, now)
		}
	}
}

// terminate ends a member by way of its hooks, or returns it to the pool. Its Why is set.
func (g *group) terminate(m *member, now time.Time) {
	if m.ending() {
		return
	}
	switch {
	case m.State == warmedStopped || m.State == pending || m.State == pendingWait:
		// It does no work that would have to move, and may not be able to end a hook.
		m.end("%s", m.Why)
	case m.warm():
		m.begin(g.Hooks, terminating, warmedTerminatingProceed, now)
	default:
		m.begin(g.Hooks, terminating, terminatingProceed, now)
	}
}

// leave is scale-in: the instance ends, or returns to a pool that reuses it.
func (g *group) leave(m *member, now time.Time) {
	if g.Pool == nil || !g.Pool.Reuse || m.State != inService || m.Sick != "" || g.count((*member).warm) >= g.poolSize() {
		g.terminate(m, now)
		return
	}
	m.Served, m.Leaving = time.Time{}, ""
	m.begin(g.Hooks, terminating, warmedPendingProceed, now)
	m.Arrival = g.begins(now, "Returning EC2 instance to the warm pool: "+m.ID, causeOf(now, m.Why), inProgress, "").ID
	m.Why = ""
}

// extra is how many members above the desired capacity there may be, for those that leave.
func (g *group) extra() int {
	leaving := g.count(func(m *member) bool { return m.active() && m.Leaving != "" })
	over := max(1, g.Max/10) // EC2 Auto Scaling, "Capacity Rebalancing": 10 percent
	if r := g.refreshing(); r != nil {
		over = max(over, r.surplus(g.Desired))
	}
	return min(leaving, max(0, g.Max+over-g.Desired))
}

// scaleOut has as many members as are wanting launched, from the pool first.
func (g *Groups) scaleOut(group *group, now time.Time, soonest func(time.Time)) {
	short := group.Desired + group.extra() - group.count((*member).active)
	if short <= 0 || group.suspended("Launch") || g.Launcher == nil {
		return
	}
	have := group.count((*member).active)
	for range short {
		cause := strings.TrimSpace(group.Cause + "  " + at(now, "an instance was started in response to a difference between desired and actual capacity, increasing the capacity from %d to %d", have, have+1))
		if leaving := group.leaver(); leaving != nil && have >= group.Desired {
			cause = at(now, "an instance was launched in response to %s", leaving.Leaving)
		}
		if m := group.takeWarm(); m != nil {
			m.State, m.Added = pending, now.UTC()
			m.Protect = group.Protect
			m.Arrival = group.begins(now, "Launching a new EC2 instance from warm pool: "+m.ID, cause, preInService, "").ID
		} else if now.Before(group.RetryAt) {
			soonest(group.RetryAt)
			return
		} else if !g.order(group, now, cause, pending) {
			soonest(group.RetryAt)
			return
		}
		have++
	}
}

func (g *group) leaver() *member {
	for _, m := range g.Members {
		if m.active() && m.Leaving != "" {
			return m
		}
	}
	return nil
}

// ready tells whether the member does its work. The warm-up of one that has just come into
// service begins once that is recorded.
func (g *group) ready(m *member, now time.Time) bool {
	return m.State == inService && m.Sick == "" && !m.Served.IsZero() && !now.Before(g.warmAt(m))
}

// warmAt is when the member's warm-up is over, which only a refresh waits for.
func (g *group) warmAt(m *member) time.Time {
	if r := g.refreshing(); r != nil {
		return m.Served.Add(time.Duration(r.Warmup) * time.Second)
	}
	return m.Served
}

// release ends leaving members for whom others do the work.
func (g *group) release(now time.Time, soonest func(time.Time)) {
	if g.suspended("Terminate") {
		return
	}
	ready := 0
	for _, m := range g.Members {
		switch {
		case m.Leaving != "" || m.State != inService:
		case g.ready(m, now):
			ready++
		default:
			soonest(g.warmAt(m))
		}
	}
	for _, m := range slices.Clone(g.Members) {
		// Those that stay and those that still leave make up the desired capacity.
		leaving := g.count(func(m *member) bool { return m.active() && m.Leaving != "" })
		if m.active() && m.Leaving != "" && ready+leaving-1 >= g.Desired {
			m.Why = "an instance was taken out of service in response to " + m.Leaving
			g.terminate(m, now)
		}
	}
}

// balance has one member replaced that stands where it should not: in a subnet that is the
// group's no longer, or in a zone with two more than another has.
func (g *Groups) balance(group *group) {
	settled := group.count(func(m *member) bool { return m.State == inService && m.Leaving == "" })
	if group.suspended("AZRebalance") || group.refreshing() != nil || group.Roll != nil || group.Failures > 0 ||
		settled != group.Desired || settled != group.count((*member).active) {
		return
	}
	places := group.places()
	least := -1
	for _, id := range group.subnets() {
		if n := len(places[id]); least < 0 || n < least {
			least = n
		}
	}
	for _, m := range group.Members {
		if m.State != inService || m.Launch == nil || m.Protect {
			continue
		}
		id := m.Launch.SubnetID
		if !slices.Contains(group.subnets(), id) || len(places[id]) > least+1 {
			m.Leaving = fmt.Sprintf("an imbalance between the group's Availability Zones, as subnet %s has more instances than others", id)
			return
		}
	}
}

// places are the active members in each subnet, but for those that leave.
func (g *group) places() map[string][]*member {
	places := map[string][]*member{}
	for _, m := range g.Members {
		if m.active() && m.Leaving == "" && m.Launch != nil {
			places[m.Launch.SubnetID] = append(places[m.Launch.SubnetID], m)
		}
	}
	return places
}
