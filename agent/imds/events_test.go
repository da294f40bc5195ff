package imds_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
)

func TestEventsAreReadAsEC2WritesThem(t *testing.T) {
	server := imdstest.Start(t, map[string]string{
		"meta-data/spot/instance-action":             `{"action": "stop", "time": "2026-09-18T08:22:00Z"}`,
		"meta-data/events/recommendations/rebalance": `{"noticeTime": "2026-09-18T08:20:00Z"}`,
		"meta-data/events/maintenance/scheduled": `[{"NotBefore":"21 Jan 2027 09:00:43 GMT","Code":"system-reboot","Description":"scheduled reboot",
			"EventId":"instance-event-1","NotAfter":"21 Jan 2027 09:17:23 GMT","State":"active"},
			{"NotBefore":"1 Jan 2027 09:00:43 GMT","Code":"instance-stop","EventId":"instance-event-2","State":"canceled"}]`,
		"meta-data/autoscaling/target-lifecycle-state": "InService\n",
	})
	got, err := imds.New(server.URL, nil).Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2027, 1, 21, 9, 0, 43, 0, time.UTC)
	if len(got.Maintenance) != 1 || !got.Maintenance[0].NotBefore.Equal(at) {
		t.Fatalf("maintenance is %+v", got.Maintenance)
	}
	got.Maintenance[0].NotBefore = at
	want := imds.Events{
		Spot:        &imds.SpotAction{Action: "stop", Time: time.Date(2026, 9, 18, 8, 22, 0, 0, time.UTC)},
		Rebalance:   time.Date(2026, 9, 18, 8, 20, 0, 0, time.UTC),
		Maintenance: []imds.Maintenance{{ID: "instance-event-1", Code: "system-reboot", NotBefore: at}},
		TargetState: "InService",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnInstanceWithoutEventsHasNone(t *testing.T) {
	got, err := imds.New(imdstest.Start(t, nil).URL, nil).Events(t.Context())
	if err != nil || !reflect.DeepEqual(got, imds.Events{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}
