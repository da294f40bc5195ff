package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
)

// Cause is why the node is to be left alone.
type Cause string

// The causes, the most pressing one first.
const (
	Spot        Cause = "spot interruption"
	Termination Cause = "Auto Scaling termination"
	WarmPool    Cause = "return to the warm pool"
	Maintenance Cause = "scheduled maintenance"
	Rebalance   Cause = "rebalance recommendation"
)

// spotMargin is how long before a Spot interruption the drain gives up, for kubelet's
// graceful shutdown of what is left.
const spotMargin = 15 * time.Second

// Plan is what events ask for.
type Plan struct {
	Cause    Cause // empty: nothing
	Detail   string
	Drain    bool
	Deadline time.Time // of the drain; zero: the configured time after it began
	Hook     bool      // Auto Scaling waits for the end of the drain
}

// Decide returns the plan for events. Maintenance counts from drain before its time on.
//
// A rebalance recommendation only cordons: it may come without an interruption ever
// following, and new pods elsewhere cost nothing, while moved ones do.
func Decide(events imds.Events, now time.Time, drain time.Duration) Plan {
	terminating := events.TargetState == "Terminated"
	warming := IsWarm(events.TargetState)
	if spot := events.Spot; spot != nil {
		return Plan{
			Cause: Spot, Detail: fmt.Sprintf("%s at %s", spot.Action, spot.Time.UTC().Format(time.RFC3339)),
			Drain: true, Deadline: spot.Time.Add(-spotMargin), Hook: terminating || warming,
		}
	}
	switch {
	case terminating:
		return Plan{Cause: Termination, Drain: true, Hook: true}
	case warming:
		return Plan{Cause: WarmPool, Detail: events.TargetState, Drain: true, Hook: true}
	}
	var plan Plan
	for _, event := range events.Maintenance {
		if now.Before(event.NotBefore.Add(-drain)) || plan.Cause != "" && event.NotBefore.After(plan.Deadline) {
			continue
		}
		plan = Plan{
			Cause: Maintenance, Detail: fmt.Sprintf("%s %s not before %s", event.ID, event.Code, event.NotBefore.UTC().Format(time.RFC3339)),
			Drain: true, Deadline: event.NotBefore,
		}
	}
	if plan.Cause == Maintenance && plan.Deadline.Before(now) {
		plan.Deadline = time.Time{} // it may happen at any moment, and has not yet
	}
	if plan.Cause == "" && !events.Rebalance.IsZero() {
		plan = Plan{Cause: Rebalance, Detail: "of " + events.Rebalance.UTC().Format(time.RFC3339)}
	}
	return plan
}

// IsWarm says whether a target state is one of a warm pool.
func IsWarm(state string) bool { return strings.HasPrefix(state, "Warmed:") }

func (p Plan) String() string {
	if p.Detail == "" {
		return string(p.Cause)
	}
	return fmt.Sprintf("%s (%s)", p.Cause, p.Detail)
}
