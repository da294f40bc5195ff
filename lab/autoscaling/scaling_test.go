package autoscaling_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func TestAGroupHasAsManyInstancesAsAreDesiredSpreadOverItsZones(t *testing.T) {
	w := newWorld(t, nil)
	w.create(6, hooked)
	w.steady(6)
	zones := map[string]int{}
	for _, i := range w.group().Instances {
		zones[*i.AvailabilityZone]++
	}
	if len(zones) != 3 || zones["us-west-2a"] != 2 || zones["us-west-2b"] != 2 {
		t.Errorf("zones: %v", zones)
	}
	w.desire(2)
	w.steady(2)
	for _, a := range w.activities() {
		if a.StatusCode != types.ScalingActivityStatusCodeSuccessful {
			t.Errorf("%s is %s: %v", *a.Description, a.StatusCode, a.StatusMessage)
		}
	}
	if n := len(w.activities()); n != 10 {
		t.Errorf("%d activities, want 6 launches and 4 terminations", n)
	}
}

func TestFiftyInstancesScaleOutAndInWhateverFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newWorld(t, &fakeinstance.Chances{Seed: seed, FailsToStart: 0.1, Silent: 0.05, Fails: 0.1, NeverDrains: 0.1})
	w.create(0, hooked)
	for _, size := range []int32{50, 20, 50, 0} {
		w.desire(size)
		w.until("at the desired capacity", func() bool {
			ids, alone := w.serving()
			if alone && len(ids) == int(size) {
				return true
			}
			w.forward(2 * time.Second) // hooks that nobody ends go with their time
			return false
		})
	}
	w.until("without instances", func() bool {
		for _, i := range w.Fleet.Instances() {
			if i.State != fleet.Terminated {
				return false
			}
		}
		return true
	})
	for _, a := range w.activities() {
		if a.StatusCode == types.ScalingActivityStatusCodeMidLifecycleAction || a.EndTime == nil {
			t.Errorf("%s is %s", *a.Description, a.StatusCode)
		}
	}
}
