package imds

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func TestAnInstanceReadsWhatWasAnnouncedToIt(t *testing.T) {
	at := time.Date(2030, 1, 2, 4, 2, 0, 0, time.UTC)
	list := instances()
	one := list["127.0.0.1"]
	one.Spot = fleet.InterruptionTerminate
	one.Notices = fleet.Notices{
		Interruption: &fleet.Interruption{Action: fleet.InterruptionTerminate, Time: at}, Rebalance: at.Add(-time.Minute), TargetState: "Terminated",
		Maintenance: []fleet.Maintenance{
			{Code: "system-reboot", ID: "instance-event-1", NotBefore: at, NotAfter: at.Add(time.Hour)},
			{Code: "instance-stop", ID: "instance-event-2", NotBefore: at, NotAfter: at.Add(time.Hour), Canceled: true},
			{Code: "instance-retirement", ID: "instance-event-3", NotBefore: at.Add(-2 * time.Hour), NotAfter: at.Add(-time.Hour)},
		},
	}
	list["127.0.0.1"] = one
	s := serve(t, list)
	const told, untold = "127.0.0.1", "127.0.0.2"
	tokens := map[string]string{told: s.token(t, told), untold: s.token(t, untold)}
	for path, want := range map[string]string{
		"instance-life-cycle":                "spot",
		"spot/instance-action":               `{"action":"terminate","time":"2030-01-02T04:02:00Z"}`,
		"spot/termination-time":              "2030-01-02T04:02:00Z",
		"events/recommendations/rebalance":   `{"noticeTime":"2030-01-02T04:01:00Z"}`,
		"autoscaling/target-lifecycle-state": "Terminated",
	} {
		if status, got := s.ask(t, told, http.MethodGet, "/latest/meta-data/"+path, tokenHeader, tokens[told]); status != http.StatusOK || got != want {
			t.Errorf("%s is %d %q, want %q", path, status, got, want)
		}
		if path == "instance-life-cycle" {
			continue
		}
		if status, got := s.ask(t, untold, http.MethodGet, "/latest/meta-data/"+path, tokenHeader, tokens[untold]); status != http.StatusNotFound {
			t.Errorf("%s before it was announced is %d %q", path, status, got)
		}
	}
	if status, got := s.ask(t, untold, http.MethodGet, "/latest/meta-data/events/maintenance/scheduled", tokenHeader, tokens[untold]); status != http.StatusOK || got != "[]" {
		t.Errorf("no events are %d %q", status, got)
	}

	for path, want := range map[string][]map[string]string{
		"scheduled": {{
			"Code": "system-reboot", "Description": "scheduled reboot", "EventId": "instance-event-1", "State": "active",
			"NotBefore": "2 Jan 2030 04:02:00 GMT", "NotAfter": "2 Jan 2030 05:02:00 GMT", "NotBeforeDeadline": "9 Jan 2030 04:02:00 GMT",
		}},
		"history": {{
			"Code": "instance-stop", "Description": "[Canceled] scheduled stop", "EventId": "instance-event-2", "State": "canceled",
			"NotBefore": "2 Jan 2030 04:02:00 GMT", "NotAfter": "2 Jan 2030 05:02:00 GMT",
		}, {
			"Code": "instance-retirement", "Description": "[Completed] scheduled retirement", "EventId": "instance-event-3", "State": "completed",
			"NotBefore": "2 Jan 2030 02:02:00 GMT", "NotAfter": "2 Jan 2030 03:02:00 GMT",
		}},
	} {
		_, got := s.ask(t, told, http.MethodGet, "/latest/meta-data/events/maintenance/"+path, tokenHeader, tokens[told])
		var events []map[string]string
		if err := json.Unmarshal([]byte(got), &events); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		wanted, _ := json.Marshal(want)
		if spelled, _ := json.Marshal(events); string(spelled) != string(wanted) {
			t.Errorf("%s is %s, want %s", path, spelled, wanted)
		}
	}
}

func TestAnInstanceThatIsToBeStoppedHasNoTerminationTime(t *testing.T) {
	list := instances()
	one := list["127.0.0.1"]
	one.Spot = fleet.InterruptionStop
	one.Notices.Interruption = &fleet.Interruption{Action: fleet.InterruptionStop, Time: time.Date(2030, 1, 2, 4, 2, 0, 0, time.UTC)}
	list["127.0.0.1"] = one
	s := serve(t, list)
	token := s.token(t, "127.0.0.1")
	if _, got := s.ask(t, "127.0.0.1", http.MethodGet, "/latest/meta-data/spot", tokenHeader, token); got != "instance-action" {
		t.Errorf("spot/ has %q", got)
	}
}
