package fleet

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// What the interruption of a spot instance does, as EC2 spells it. The request of one that
// is terminated is for one time, of one that is stopped persistent.
const (
	InterruptionTerminate = "terminate"
	InterruptionStop      = "stop"
)

// OneTimeError names a spot instance that cannot be stopped.
type OneTimeError struct{ ID string }

func (e *OneTimeError) Error() string {
	return fmt.Sprintf("instance %s is of a one-time spot request", e.ID)
}

// Notices are what EC2 and Auto Scaling have announced to an instance, which reads them
// from its metadata.
type Notices struct {
	Interruption *Interruption `json:"interruption,omitempty"`
	Rebalance    time.Time     `json:"rebalance,omitzero"` // when it was recommended
	Maintenance  []Maintenance `json:"maintenance,omitempty"`
	// TargetState is the lifecycle state that Auto Scaling is taking the instance to; empty:
	// it is in no group.
	TargetState string `json:"targetState,omitempty"`
}

// Interruption is the end of a spot instance's capacity.
type Interruption struct {
	Action string    `json:"action"` // InterruptionTerminate or InterruptionStop
	Time   time.Time `json:"time"`
}

// Maintenance is an event that EC2 has scheduled. The lab announces it and does no more.
type Maintenance struct {
	Code      string    `json:"code"` // system-reboot, ...
	ID        string    `json:"id"`   // instance-event-...
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Canceled  bool      `json:"canceled,omitempty"`
}

// The events that Notify knows besides the codes of MaintenanceCodes.
const (
	SpotInterruption = "spot-interruption"
	Rebalance        = "rebalance"
	LifecycleState   = "lifecycle-state"
)

// maintenanceWindow is how long after its beginning an event is over.
const maintenanceWindow = 20 * time.Minute

// MaintenanceCodes are the codes of scheduled events (EC2, "Types of scheduled events").
func MaintenanceCodes() []string {
	return []string{"instance-reboot", "system-reboot", "system-maintenance", "instance-retirement", "instance-stop"}
}

// TargetStates are the lifecycle states that Auto Scaling takes instances to (EC2 Auto
// Scaling, "Retrieve the target lifecycle state through instance metadata").
func TargetStates() []string {
	return []string{
		"Detached", "InService", "Standby", "Terminated", "Warmed:Hibernated", "Warmed:Running", "Warmed:Stopped", "Warmed:Terminated",
	}
}

// Notice is something to announce to an instance, or to withdraw.
type Notice struct {
	Event  string        `json:"event"`           // SpotInterruption, Rebalance, LifecycleState or one of MaintenanceCodes
	State  string        `json:"state,omitempty"` // of LifecycleState: one of TargetStates
	In     time.Duration `json:"in,omitempty"`    // until an interruption, or maintenance at the earliest
	Cancel bool          `json:"cancel,omitempty"`
}

// Check tells what is wrong with the notice.
func (n Notice) Check() error {
	scheduled := n.Event == SpotInterruption || slices.Contains(MaintenanceCodes(), n.Event)
	switch {
	case !scheduled && n.Event != Rebalance && n.Event != LifecycleState:
		return fmt.Errorf("no event %q: want %s, %s, %s or one of %v", n.Event, SpotInterruption, Rebalance, LifecycleState, MaintenanceCodes())
	case n.In < 0:
		return fmt.Errorf("%s: %s is in the past", n.Event, n.In)
	case n.In > 0 && !scheduled && !n.Cancel:
		return fmt.Errorf("%s takes no time: it is there at once", n.Event)
	case n.Event != LifecycleState && n.State != "":
		return fmt.Errorf("%s takes no state", n.Event)
	case n.Event == LifecycleState && !n.Cancel && !slices.Contains(TargetStates(), n.State):
		return fmt.Errorf("no target lifecycle state %q: want one of %v", n.State, TargetStates())
	}
	return nil
}

// Notify announces something to an instance, or withdraws it. A spot instance's interruption
// is carried out when its time comes.
func (f *Fleet) Notify(id string, n Notice) error {
	if err := n.Check(); err != nil {
		return err
	}
	i, err := f.find(id)
	if err != nil {
		return fmt.Errorf("announce %s: %w", n.Event, err)
	}
	if i.Spot == "" && (n.Event == SpotInterruption || n.Event == Rebalance) {
		return fmt.Errorf("announce %s: %s is on demand, which EC2 does not interrupt: launch one with --spot", n.Event, id)
	}
	if n.Event == SpotInterruption && !n.Cancel && i.State != Running {
		return fmt.Errorf("announce %s: %w", n.Event, &StateError{ID: id, State: i.State})
	}
	_, err = f.command([]string{id}, func(i *Instance) error { return i.Notices.take(n, i.Spot, f.Now().UTC()) })
	if err != nil {
		return fmt.Errorf("announce %s to %s: %w", n.Event, id, err)
	}
	return nil
}

// Target tells an instance of a group of Auto Scaling which lifecycle state it is taken to.
// An empty state takes it out of the group. The group's name becomes a tag, as on EC2.
func (f *Fleet) Target(id, group, state string) error {
	return f.amend(id, func(i *Instance) {
		i.Notices.TargetState = state
		i.Tags = maps.Clone(i.Tags) // snapshots keep theirs
		if state == "" {
			delete(i.Tags, groupTag)
			return
		}
		if i.Tags == nil {
			i.Tags = map[string]string{}
		}
		i.Tags[groupTag] = group
	})
}

// groupTag is the tag that Auto Scaling gives its instances.
const groupTag = "aws:autoscaling:groupName"

// take makes the notice one of these, or withdraws it. What is announced again is announced
// anew.
func (s *Notices) take(n Notice, spot string, now time.Time) error {
	at := now.Add(n.In).Truncate(time.Second) // metadata has whole seconds
	switch n.Event {
	case SpotInterruption:
		s.Interruption = nil
		if !n.Cancel {
			s.Interruption = &Interruption{Action: spot, Time: at}
		}
	case Rebalance:
		s.Rebalance = time.Time{}
		if !n.Cancel {
			s.Rebalance = at
		}
	case LifecycleState:
		s.TargetState = n.State
	default:
		return s.schedule(n, at, now)
	}
	return nil
}

func (s *Notices) schedule(n Notice, at, now time.Time) error {
	s.Maintenance = slices.Clone(s.Maintenance) // snapshots keep theirs
	if !n.Cancel {
		s.Maintenance = append(s.Maintenance, Maintenance{Code: n.Event, ID: newID("instance-event-0"), NotBefore: at, NotAfter: at.Add(maintenanceWindow)})
		return nil
	}
	found := false
	for index := range s.Maintenance {
		if m := &s.Maintenance[index]; m.Code == n.Event && m.Active(now) {
			m.Canceled, found = true, true
		}
	}
	if !found {
		return fmt.Errorf("no %s is scheduled", n.Event)
	}
	return nil
}

// Active tells whether the event is still to come, or going on.
func (m Maintenance) Active(now time.Time) bool { return !m.Canceled && now.Before(m.NotAfter) }
