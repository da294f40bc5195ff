package autoscaling_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

var workersName = aws.String("workers")

// pool are the instances of the warm pool in a state; empty: in any.
func (w *world) pool(state string) (ids []string) {
	w.t.Helper()
	out, err := w.client.DescribeWarmPool(w.t.Context(), &sdk.DescribeWarmPoolInput{AutoScalingGroupName: workersName})
	must(w.t, err)
	for _, i := range out.Instances {
		if state == "" || string(i.LifecycleState) == state {
			ids = append(ids, *i.InstanceId)
		}
	}
	return ids
}

func (w *world) hooks() (names []string) {
	w.t.Helper()
	out, err := w.client.DescribeLifecycleHooks(w.t.Context(), &sdk.DescribeLifecycleHooksInput{AutoScalingGroupName: workersName})
	must(w.t, err)
	for _, h := range out.LifecycleHooks {
		names = append(names, *h.LifecycleHookName)
	}
	return names
}

func TestALaunchThatFailsIsToldAndTriedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() {
		w.launcher.failing = query.Refuse("InsufficientInstanceCapacity", "We currently do not have sufficient t3.medium capacity.")
	})
	w.create(1)
	w.until("told", func() bool {
		for _, a := range w.activities() {
			if a.StatusCode == types.ScalingActivityStatusCodeFailed {
				return *a.StatusMessage == "We currently do not have sufficient t3.medium capacity. Launching EC2 instance failed."
			}
		}
		return false
	})
	w.launcher.with(func() { w.launcher.failing = nil })
	w.forward(time.Minute)
	w.steady(1)
}

func TestADaemonThatWasKilledCarriesOnAndLaunchesNothingTwice(t *testing.T) {
	w := newWorld(t, nil)
	w.create(5, hooked)
	w.Stop() // somewhere in the midst
	w.open(nil, []string{userData})
	w.steady(5)
	if n := len(w.Fleet.Instances()); n != 5 {
		t.Errorf("%d instances were launched for 5", n)
	}
	w.desire(1)
	w.Stop()
	w.open(nil, []string{userData})
	w.steady(1)
}

func TestAnInstanceThatEndsOrIsUnhealthyIsReplaced(t *testing.T) {
	w := newWorld(t, nil)
	w.create(2, hooked)
	first := w.steady(2)
	_, err := w.Fleet.Terminate(first[:1], false)
	must(t, err)
	w.until("replaced", func() bool {
		now, alone := w.serving()
		return alone && len(now) == 2 && !slices.Contains(now, first[0])
	})
	suspended := []string{"ReplaceUnhealthy"}
	_, err = w.client.SuspendProcesses(t.Context(), &sdk.SuspendProcessesInput{AutoScalingGroupName: workersName, ScalingProcesses: suspended})
	must(t, err)
	_, err = w.client.SetInstanceHealth(t.Context(), &sdk.SetInstanceHealthInput{InstanceId: &first[1], HealthStatus: aws.String("Unhealthy")})
	must(t, err)
	if now, _ := w.serving(); !slices.Contains(now, first[1]) {
		t.Errorf("%s was ended while ReplaceUnhealthy was suspended", first[1])
	}
	if next, err := w.Groups.Step(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("something is due at %s while ReplaceUnhealthy is suspended: %v", next, err)
	}
	_, err = w.client.ResumeProcesses(t.Context(), &sdk.ResumeProcessesInput{AutoScalingGroupName: workersName, ScalingProcesses: suspended})
	must(t, err)
	w.until("replaced", func() bool {
		now, alone := w.serving()
		return alone && len(now) == 2 && !slices.Contains(now, first[1])
	})
}

func TestSpotAndOnDemandAreMixedAndASpotInstanceIsReplacedBeforeItGoes(t *testing.T) {
	w := newWorld(t, nil)
	w.create(4, hooked, func(in *sdk.CreateAutoScalingGroupInput) {
		in.CapacityRebalance = aws.Bool(true)
		in.MixedInstancesPolicy = &types.MixedInstancesPolicy{
			LaunchTemplate: &types.LaunchTemplate{
				LaunchTemplateSpecification: in.LaunchTemplate,
				Overrides:                   []types.LaunchTemplateOverrides{{InstanceType: aws.String("t3.large")}, {InstanceType: aws.String("m5.large")}},
			},
			InstancesDistribution: &types.InstancesDistribution{
				OnDemandBaseCapacity: aws.Int32(1), OnDemandPercentageAboveBaseCapacity: aws.Int32(0), SpotAllocationStrategy: aws.String("price-capacity-optimized"),
			},
		}
		in.LaunchTemplate = nil
	})
	w.steady(4)
	kinds := map[string]int{}
	spot := ""
	for _, i := range w.Fleet.Instances() {
		kinds[i.Type+" "+i.Spot]++
		if i.Spot != "" {
			spot = i.ID
		}
	}
	if kinds["t3.large "] != 1 || kinds["t3.large terminate"]+kinds["m5.large terminate"] != 3 || kinds["m5.large terminate"] == 0 {
		t.Errorf("instances: %v", kinds)
	}
	must(t, w.Fleet.Notify(spot, fleet.Notice{Event: fleet.Rebalance}))
	least := 4
	w.until("replaced", func() bool {
		now, alone := w.serving()
		least = min(least, len(now))
		return alone && len(now) == 4 && !slices.Contains(now, spot)
	})
	if least < 4 {
		t.Errorf("%d instances were in service for a moment", least)
	}
}

func TestATypeThatCannotBeLaunchedGivesWayToTheNext(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.types["t3.large"] = query.Refuse("InsufficientInstanceCapacity", "No t3.large.") })
	w.create(1, func(in *sdk.CreateAutoScalingGroupInput) {
		in.MixedInstancesPolicy = &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{
			LaunchTemplateSpecification: in.LaunchTemplate,
			Overrides:                   []types.LaunchTemplateOverrides{{InstanceType: aws.String("t3.large")}, {InstanceType: aws.String("m5.large")}},
		}}
		in.LaunchTemplate = nil
	})
	w.steady(1)
	if kind := *w.group().Instances[0].InstanceType; kind != "m5.large" {
		t.Errorf("a %s was launched", kind)
	}
}

func TestScaleInFollowsThePolicyAndSparesWhatIsProtected(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{userData, userData} })
	one := func(in *sdk.CreateAutoScalingGroupInput) {
		in.VPCZoneIdentifier = aws.String(vpc.Default().Subnets[0].ID)
		in.LaunchTemplate.Version = aws.String("1")
		in.TerminationPolicies = []string{"NewestInstance"}
	}
	w.create(1, hooked, one)
	old := w.steady(1)
	w.desire(2)
	both := w.steady(2)
	w.desire(1)
	if left := w.steady(1); !slices.Equal(left, old) {
		t.Errorf("%v is left of %v, want the oldest, %v", left, both, old)
	}
	_, err := w.client.SetInstanceProtection(t.Context(), &sdk.SetInstanceProtectionInput{AutoScalingGroupName: workersName, InstanceIds: old, ProtectedFromScaleIn: aws.Bool(true)})
	must(t, err)
	_, err = w.client.UpdateAutoScalingGroup(t.Context(), &sdk.UpdateAutoScalingGroupInput{
		AutoScalingGroupName: workersName, DesiredCapacity: aws.Int32(2), TerminationPolicies: []string{"OldestInstance"},
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("nodes"), Version: aws.String("2")},
	})
	must(t, err)
	w.steady(2)
	w.desire(1)
	if left := w.steady(1); !slices.Equal(left, old) {
		t.Errorf("%v is left, want the protected %v", left, old)
	}
	_, err = w.client.TerminateInstanceInAutoScalingGroup(t.Context(), &sdk.TerminateInstanceInAutoScalingGroupInput{InstanceId: &old[0], ShouldDecrementDesiredCapacity: aws.Bool(false)})
	must(t, err)
	w.until("replaced", func() bool {
		now, alone := w.serving()
		return alone && len(now) == 1 && now[0] != old[0]
	})
	if v := *w.group().Instances[0].LaunchTemplate.Version; v != "2" {
		t.Errorf("the replacement is of version %s", v)
	}
}

func TestAWarmPoolFillsGivesAndTakesBack(t *testing.T) {
	w := newWorld(t, nil)
	w.create(1, hooked)
	w.steady(1)
	_, err := w.client.PutWarmPool(t.Context(), &sdk.PutWarmPoolInput{
		AutoScalingGroupName: workersName, MaxGroupPreparedCapacity: aws.Int32(3), InstanceReusePolicy: &types.InstanceReusePolicy{ReuseOnScaleIn: aws.Bool(true)},
	})
	must(t, err)
	w.until("two stopped", func() bool { return len(w.pool("Warmed:Stopped")) == 2 })
	warm := w.pool("")
	w.desire(2)
	now := w.steady(2)
	if !slices.ContainsFunc(now, func(id string) bool { return slices.Contains(warm, id) }) {
		t.Errorf("%v serve, none of the pool's %v", now, warm)
	}
	w.desire(1)
	w.steady(1)
	w.until("two stopped again", func() bool { return len(w.pool("Warmed:Stopped")) == 2 && len(w.pool("")) == 2 })
	if n := len(w.Fleet.Instances()); n != 3 {
		t.Errorf("%d instances were launched, want 3", n)
	}
	_, err = w.client.DeleteWarmPool(t.Context(), &sdk.DeleteWarmPoolInput{AutoScalingGroupName: workersName})
	must(t, err)
	w.until("empty", func() bool { return len(w.pool("")) == 0 })
	_, err = w.client.PutWarmPool(t.Context(), &sdk.PutWarmPoolInput{AutoScalingGroupName: workersName, PoolState: types.WarmPoolStateHibernated})
	refused(t, err, "ValidationError", "Hibernated")
}

// refreshed waits until the group's last refresh is over.
func (w *world) refreshed(want types.InstanceRefreshStatus) {
	w.t.Helper()
	var got types.InstanceRefresh
	w.until("refreshed", func() bool {
		out, err := w.client.DescribeInstanceRefreshes(w.t.Context(), &sdk.DescribeInstanceRefreshesInput{AutoScalingGroupName: workersName})
		must(w.t, err)
		got = out.InstanceRefreshes[0]
		return got.EndTime != nil
	})
	if got.Status != want {
		w.t.Errorf("the refresh is %s (%s), want %s", got.Status, aws.ToString(got.StatusReason), want)
	}
}

func TestARefreshReplacesEveryInstanceAndCanBeRolledBack(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{userData, userData, "nothing that could be read"} })
	w.create(3, hooked, func(in *sdk.CreateAutoScalingGroupInput) { in.LaunchTemplate.Version = aws.String("1") })
	first := w.steady(3)
	start := func(version string, most int32) {
		t.Helper()
		_, err := w.client.StartInstanceRefresh(t.Context(), &sdk.StartInstanceRefreshInput{
			AutoScalingGroupName: workersName,
			Preferences:          &types.RefreshPreferences{MinHealthyPercentage: aws.Int32(100), MaxHealthyPercentage: &most, InstanceWarmup: aws.Int32(0), SkipMatching: aws.Bool(true)},
			DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("nodes"), Version: &version}},
		})
		must(t, err)
	}
	start("2", 150)
	w.refreshed(types.InstanceRefreshStatusSuccessful)
	second := w.steady(3)
	w.versions("2")
	if slices.ContainsFunc(second, func(id string) bool { return slices.Contains(first, id) }) || *w.group().LaunchTemplate.Version != "2" {
		t.Errorf("%v were %v, and the group's version is %s", second, first, *w.group().LaunchTemplate.Version)
	}
	start("3", 100) // which gets nowhere
	_, err := w.client.StartInstanceRefresh(t.Context(), &sdk.StartInstanceRefreshInput{AutoScalingGroupName: workersName})
	refused(t, err, "InstanceRefreshInProgress", "already in progress")
	w.until("begun", func() bool { now, _ := w.serving(); return len(now) < 3 })
	_, err = w.client.RollbackInstanceRefresh(t.Context(), &sdk.RollbackInstanceRefreshInput{AutoScalingGroupName: workersName})
	must(t, err)
	w.forward(time.Minute)
	w.until("rolled back", func() bool { w.forward(time.Second); now, alone := w.serving(); return alone && len(now) == 3 })
	w.refreshed(types.InstanceRefreshStatusRollbackSuccessful)
	w.versions("2")
	_, err = w.client.CancelInstanceRefresh(t.Context(), &sdk.CancelInstanceRefreshInput{AutoScalingGroupName: workersName})
	refused(t, err, "ActiveInstanceRefreshNotFound", "")
}

func TestARefreshWaitsUntilItsInstancesAreWarmedUp(t *testing.T) {
	w := newWorld(t, nil)
	w.create(1)
	first := w.steady(1)
	_, err := w.client.StartInstanceRefresh(t.Context(), &sdk.StartInstanceRefreshInput{
		AutoScalingGroupName: workersName, Preferences: &types.RefreshPreferences{MinHealthyPercentage: aws.Int32(0), InstanceWarmup: aws.Int32(600)},
	})
	must(t, err)
	w.until("replaced", func() bool { now, alone := w.serving(); return alone && len(now) == 1 && now[0] != first[0] })
	next, err := w.Groups.Step(t.Context())
	must(t, err)
	out, err := w.client.DescribeInstanceRefreshes(t.Context(), &sdk.DescribeInstanceRefreshesInput{AutoScalingGroupName: workersName})
	must(t, err)
	if r := out.InstanceRefreshes[0]; r.Status != types.InstanceRefreshStatusInProgress || next.IsZero() {
		t.Errorf("the refresh is %s, and the next thing due at %s", r.Status, next)
	}
	w.forward(10 * time.Minute)
	w.refreshed(types.InstanceRefreshStatusSuccessful)
}

func TestTagsFilterGroupsAndReachInstances(t *testing.T) {
	w := newWorld(t, nil)
	w.create(1, func(in *sdk.CreateAutoScalingGroupInput) {
		in.Tags = []types.Tag{{Key: aws.String("colour"), Value: aws.String("red"), PropagateAtLaunch: aws.Bool(true)}, {Key: aws.String("own"), Value: aws.String("1")}}
	})
	w.steady(1)
	if tags := w.Fleet.Instances()[0].Tags; tags["colour"] != "red" || tags["own"] != "" {
		t.Errorf("the instance's tags: %v", tags)
	}
	_, err := w.client.CreateOrUpdateTags(t.Context(), &sdk.CreateOrUpdateTagsInput{Tags: []types.Tag{{ResourceId: workersName, ResourceType: aws.String("auto-scaling-group"), Key: aws.String("own"), Value: aws.String("2"), PropagateAtLaunch: aws.Bool(false)}}})
	must(t, err)
	for value, want := range map[string]int{"1": 0, "2": 1} {
		out, err := w.client.DescribeAutoScalingGroups(t.Context(), &sdk.DescribeAutoScalingGroupsInput{Filters: []types.Filter{{Name: aws.String("tag:own"), Values: []string{value}}}})
		if err != nil || len(out.AutoScalingGroups) != want {
			t.Errorf("%d groups with %s, %v", len(out.AutoScalingGroups), value, err)
		}
	}
	_, err = w.client.DeleteTags(t.Context(), &sdk.DeleteTagsInput{Tags: []types.Tag{{ResourceId: workersName, ResourceType: aws.String("auto-scaling-group"), Key: aws.String("own")}}})
	must(t, err)
	out, err := w.client.DescribeTags(t.Context(), &sdk.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("auto-scaling-group"), Values: []string{"workers"}}}})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].Key != "colour" {
		t.Errorf("tags: %+v, %v", out.Tags, err)
	}
}

func TestListsComeInPages(t *testing.T) {
	w := newWorld(t, nil)
	w.create(3)
	w.steady(3)
	var ids []string
	pages := sdk.NewDescribeAutoScalingInstancesPaginator(w.client, &sdk.DescribeAutoScalingInstancesInput{MaxRecords: aws.Int32(2)})
	for pages.HasMorePages() {
		out, err := pages.NextPage(t.Context())
		must(t, err)
		for _, i := range out.AutoScalingInstances {
			ids = append(ids, *i.InstanceId)
		}
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 3 {
		t.Errorf("instances %v", ids)
	}
	_, err := w.client.DescribeAutoScalingInstances(t.Context(), &sdk.DescribeAutoScalingInstancesInput{NextToken: aws.String("wrong")})
	refused(t, err, "InvalidNextToken", "wrong")
}
