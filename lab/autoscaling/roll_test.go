package autoscaling_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// signals have come whenever somebody waits for them, but for those that were taken away.
type signals struct {
	resets int
	taken  bool
	reset  func(n int) (taken bool)
}

func (s *signals) Reset() {
	s.resets++
	s.taken = s.reset(s.resets)
}

func (s *signals) Wait(ctx context.Context, _, _ int, _ time.Duration) error {
	if s.taken {
		return errors.Join(ctx.Err(), errors.New("no signal has come"))
	}
	return ctx.Err()
}

func TestARollingUpdateGoesOnWhenItsDaemonWasKilledBetweenTwoBatches(t *testing.T) {
	w := newWorld(t, nil)
	versions := []string{userData, userData}
	w.launcher.with(func() { w.launcher.versions = versions })
	plan := vpc.Default()
	properties := func(version string) map[string]any {
		return map[string]any{
			"MinSize": 2, "MaxSize": 2, "VPCZoneIdentifier": []any{plan.Subnets[0].ID, plan.Subnets[1].ID},
			"LaunchTemplate": map[string]any{"LaunchTemplateName": "nodes", "Version": version},
		}
	}
	group := func() resource.Handler {
		return autoscaling.Service{Plan: plan, Groups: w.Groups}.ResourceTypes()[0].Handler
	}
	_, err := group().Create(t.Context(), resource.Request{Name: "workers", Token: "create", Properties: properties("1")})
	must(t, err)
	w.steady(2)

	ctx, kill := context.WithCancel(t.Context())
	var record []byte
	given := &signals{reset: func(n int) bool {
		if n == 2 { // the group does not know of the second batch yet
			record, err = os.ReadFile(w.dir.Scaling())
			kill()
		}
		return n == 2
	}}
	request := resource.Request{
		Token: "update", Properties: properties("2"), Before: properties("1"), Signals: given,
		UpdatePolicy: map[string]any{"AutoScalingRollingUpdate": map[string]any{"WaitOnResourceSignals": true}},
	}
	if err := group().Update(ctx, "workers", request); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	must(t, err)
	w.Stop()
	must(t, os.WriteFile(w.dir.Scaling(), record, 0o600))
	w.open(nil, versions)
	must(t, group().Update(t.Context(), "workers", request))
	w.steady(2)
	w.versions("2")
}
