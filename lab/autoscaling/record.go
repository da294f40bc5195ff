package autoscaling

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Transitions that hooks hold up, as PutLifecycleHook names them.
const (
	launching   = "autoscaling:EC2_INSTANCE_LAUNCHING"
	terminating = "autoscaling:EC2_INSTANCE_TERMINATING"
)

// Lifecycle states of an instance in a group:
//
//	Pending -> (Pending:Wait) -> InService -> (Terminating:Wait) -> Terminating:Proceed -> gone
//	   ^                             | (reuse)
//	   |                             v
//	   +---- Warmed:Stopped <- Warmed:Pending:Proceed <- (Warmed:Pending:Wait) <- Warmed:Pending
//
// The waits are there if there are hooks. Of a pool whose instances run it is Warmed:Running.
const (
	pending                  = "Pending"
	pendingWait              = "Pending:Wait"
	inService                = "InService"
	terminatingWait          = "Terminating:Wait"
	terminatingProceed       = "Terminating:Proceed"
	warmedPending            = "Warmed:Pending"
	warmedPendingWait        = "Warmed:Pending:Wait"
	warmedPendingProceed     = "Warmed:Pending:Proceed"
	warmedStopped            = "Warmed:Stopped"
	warmedRunning            = "Warmed:Running"
	warmedTerminatingWait    = "Warmed:Terminating:Wait"
	warmedTerminatingProceed = "Warmed:Terminating:Proceed"
)

// Results of a lifecycle action.
const (
	proceed = "CONTINUE"
	abandon = "ABANDON"
)

// group is what is recorded of one.
type group struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	settings
	Tags       []tag       `json:"tags,omitempty"`
	Hooks      []hook      `json:"hooks,omitempty"`
	Suspended  []string    `json:"suspended,omitempty"` // processes
	Pool       *pool       `json:"pool,omitempty"`
	Members    []*member   `json:"members,omitempty"`
	Activities []*activity `json:"activities,omitempty"` // the newest last
	Refreshes  []*refresh  `json:"refreshes,omitempty"`  // the newest last
	Roll       *roll       `json:"roll,omitempty"`       // a rolling update that is under way, or has failed
	Rolled     string      `json:"rolled,omitempty"`     // the token of the last one that has ended
	Deleting   bool        `json:"deleting,omitempty"`
	Token      string      `json:"token,omitempty"`    // of the stack's request that made it
	Cause      string      `json:"cause,omitempty"`    // of the last change of its capacity
	Failures   int         `json:"failures,omitempty"` // launches in a row
	RetryAt    time.Time   `json:"retryAt,omitzero"`   // nothing is launched before
}

type tag struct {
	Key       string `json:"key"`
	Value     string `json:"value"`
	Propagate bool   `json:"propagate"`
}

// settings are what CreateAutoScalingGroup and UpdateAutoScalingGroup set.
type settings struct {
	Min          int          `json:"min"`
	Max          int          `json:"max"`
	Desired      int          `json:"desired"`
	Subnets      string       `json:"subnets,omitempty"` // IDs with commas between them
	Template     *templateRef `json:"template,omitempty"`
	Mixed        *mixed       `json:"mixed,omitempty"`
	Cooldown     int          `json:"cooldown"`         // seconds
	Warmup       *int         `json:"warmup,omitempty"` // seconds
	HealthCheck  string       `json:"healthCheck"`
	Grace        int          `json:"grace"` // seconds
	Rebalance    bool         `json:"rebalance,omitempty"`
	Protect      bool         `json:"protect,omitempty"` // new instances, from scale-in
	Policies     []string     `json:"policies,omitempty"`
	TargetGroups []string     `json:"targetGroups,omitempty"`
}

func (s *settings) defaults() {
	s.Cooldown, s.HealthCheck, s.Policies = defaultCooldown, "EC2", []string{"Default"}
}

// launches tells whether the group has something to launch from. One that has not follows
// the instances that are attached to it.
func (s *settings) launches() bool { return s.Template != nil || s.Mixed != nil }

func (s *settings) subnets() []string { return strings.Split(s.Subnets, ",") }

// member is an instance of a group, or one that is being launched.
type member struct {
	ID      string    `json:"id,omitempty"` // empty until it is launched
	State   string    `json:"state"`
	Actions []action  `json:"actions,omitempty"` // that hold it up
	Launch  *Launch   `json:"launch,omitempty"`  // nil: it was attached
	Added   time.Time `json:"added,omitzero"`
	Served  time.Time `json:"served,omitzero"` // since when it is in service
	Protect bool      `json:"protect,omitempty"`
	Sick    string    `json:"sick,omitempty"` // why it is unhealthy
	// Leaving is why the member is to be replaced: it goes once others do its work.
	Leaving string `json:"leaving,omitempty"`
	// Why is why it ends, and Failed what kept it from getting into service.
	Why    string `json:"why,omitempty"`
	Failed string `json:"failed,omitempty"`
	// Arrival and Departure are its open activities.
	Arrival   string `json:"arrival,omitempty"`
	Departure string `json:"departure,omitempty"`
}

// active members count towards the desired capacity.
func (m *member) active() bool {
	return m.State == pending || m.State == pendingWait || m.State == inService
}

func (m *member) warm() bool { return strings.HasPrefix(m.State, "Warmed:") }

// goes tells whether nothing holds up the member's end any more.
func (m *member) goes() bool {
	return m.State == terminatingProceed || m.State == warmedTerminatingProceed
}

func (m *member) ending() bool {
	return m.goes() || m.State == terminatingWait || m.State == warmedTerminatingWait
}

// end ends a member without its hooks.
func (m *member) end(why string, args ...any) {
	if m.goes() {
		return
	}
	if m.Why == "" {
		m.Why = fmt.Sprintf(why, args...)
	}
	m.Actions = nil
	if m.State = terminatingProceed; m.warm() {
		m.State = warmedTerminatingProceed
	}
}

func (g *group) count(of func(*member) bool) int {
	n := 0
	for _, m := range g.Members {
		if of(m) {
			n++
		}
	}
	return n
}

// target is the lifecycle state that the member is taken to, as its metadata tells it.
func (g *group) target(m *member) string {
	switch {
	case m.ending() && m.warm():
		return "Warmed:Terminated"
	case m.ending():
		return "Terminated"
	case m.warm():
		return "Warmed:" + g.pooled()
	}
	return inService
}

// suspended tells whether a process is.
func (g *group) suspended(process string) bool { return slices.Contains(g.Suspended, process) }

// cause notes why the capacity changes, for the activities that follow.
func (g *group) cause(now time.Time, format string, args ...any) {
	g.Cause = at(now, format, args...)
}

// at is a sentence of an activity's cause.
func at(now time.Time, format string, args ...any) string {
	return "At " + now.UTC().Format("2006-01-02T15:04:05Z") + " " + fmt.Sprintf(format, args...) + "."
}

// causeOf makes a cause of a reason that may be one already.
func causeOf(now time.Time, why string) string {
	if strings.HasPrefix(why, "At ") {
		return why
	}
	return at(now, "%s", why)
}

// activity is something that the group does or did.
type activity struct {
	ID          string    `json:"id"`
	Description string    `json:"description"`
	Cause       string    `json:"cause"`
	Start       time.Time `json:"start"`
	End         time.Time `json:"end,omitzero"`
	Status      string    `json:"status"`
	Message     string    `json:"message,omitempty"`
	Details     string    `json:"details,omitempty"`
}

// Statuses of activities.
const (
	preInService = "PreInService"
	midAction    = "MidLifecycleAction"
	inProgress   = "InProgress"
	successful   = "Successful"
	failed       = "Failed"
)

// mostActivities are kept of one group.
const mostActivities = 500

func (g *group) begins(now time.Time, description, cause, status, details string) *activity {
	a := &activity{ID: uuid.NewString(), Description: description, Cause: cause, Start: now.UTC(), Status: status, Details: details}
	g.Activities = append(g.Activities, a)
	if over := len(g.Activities) - mostActivities; over > 0 {
		g.Activities = slices.Delete(g.Activities, 0, over)
	}
	return a
}

// doing finds an activity, which may no longer be known.
func (g *group) doing(id string) *activity {
	for _, a := range g.Activities {
		if a.ID == id {
			return a
		}
	}
	return &activity{}
}

func (a *activity) ends(now time.Time, status, message string) {
	a.Status, a.Message, a.End = status, message, now.UTC()
}
