package imds

import (
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func lifeCycle(i fleet.Instance) string {
	if i.Spot != "" {
		return "spot"
	}
	return "on-demand"
}

// notices adds what was announced to the instance (EC2, "Spot Instance interruption
// notices", "Rebalance recommendations", "View scheduled events"; EC2 Auto Scaling,
// "Retrieve the target lifecycle state"). There is nothing at a path before its notice, but
// for the lists of scheduled events.
func (s Service) notices(i fleet.Instance, meta func(path, value string)) {
	if n := i.Notices.Interruption; n != nil {
		at := n.Time.UTC().Format(time.RFC3339)
		meta("spot/instance-action", `{"action":"`+n.Action+`","time":"`+at+`"}`)
		if n.Action == fleet.InterruptionTerminate {
			meta("spot/termination-time", at)
		}
	}
	if at := i.Notices.Rebalance; !at.IsZero() {
		meta("events/recommendations/rebalance", `{"noticeTime":"`+at.UTC().Format(time.RFC3339)+`"}`)
	}
	if state := i.Notices.TargetState; state != "" {
		meta("autoscaling/target-lifecycle-state", state)
	}
	scheduled, history := s.events(i.Notices.Maintenance)
	meta("events/maintenance/scheduled", pretty(scheduled))
	meta("events/maintenance/history", pretty(history))
}

// event is a scheduled event as the metadata service spells it.
type event struct {
	NotBefore         string
	Code              string
	Description       string
	EventId           string //nolint:revive // EC2's spelling
	NotAfter          string
	NotBeforeDeadline string `json:",omitempty"` // of reboots, which may be put off until then
	State             string
}

// eventTime is how scheduled events spell a time, which is UTC.
const eventTime = "2 Jan 2006 15:04:05 GMT"

// postponable is how long a reboot may be put off.
const postponable = 7 * 24 * time.Hour

var descriptions = map[string]string{
	"instance-reboot":     "scheduled reboot",
	"system-reboot":       "scheduled reboot",
	"system-maintenance":  "scheduled maintenance",
	"instance-retirement": "scheduled retirement",
	"instance-stop":       "scheduled stop",
}

func (s Service) events(list []fleet.Maintenance) (scheduled, history []event) {
	scheduled, history = []event{}, []event{} // which are [], not null
	for _, m := range list {
		e := event{
			NotBefore: m.NotBefore.UTC().Format(eventTime), Code: m.Code, Description: descriptions[m.Code], EventId: m.ID,
			NotAfter: m.NotAfter.UTC().Format(eventTime), State: "active",
		}
		if m.Code == "instance-reboot" || m.Code == "system-reboot" {
			e.NotBeforeDeadline = m.NotBefore.Add(postponable).UTC().Format(eventTime)
		}
		switch {
		case m.Active(s.Now()):
			scheduled = append(scheduled, e)
			continue
		case m.Canceled:
			e.State, e.Description = "canceled", "[Canceled] "+e.Description
		default:
			e.State, e.Description = "completed", "[Completed] "+e.Description
		}
		history = append(history, e)
	}
	return scheduled, history
}
