package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func TestInstancesAreStoppedStartedAndRebooted(t *testing.T) {
	running, stopped := sample(1, fleet.Running, nil), sample(2, fleet.Stopped, nil)
	l := newLab(t, running, stopped)
	client := l.admin()
	if _, err := client.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{running.ID}}); err != nil {
		t.Error(err)
	}
	out, err := client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{running.ID}, Force: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	c := out.StoppingInstances[0]
	if *c.InstanceId != running.ID || c.PreviousState.Name != types.InstanceStateNameRunning || c.CurrentState.Name != types.InstanceStateNameStopping || *c.CurrentState.Code != 64 {
		t.Errorf("stop: %+v %+v", c.PreviousState, c.CurrentState)
	}
	started, err := client.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{stopped.ID}})
	if err != nil {
		t.Fatal(err)
	}
	if c := started.StartingInstances[0]; c.PreviousState.Name != types.InstanceStateNameStopped || c.CurrentState.Name != types.InstanceStateNamePending {
		t.Errorf("start: %+v %+v", c.PreviousState, c.CurrentState)
	}
	described, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{stopped.ID}})
	if err != nil {
		t.Fatal(err)
	}
	if i := described.Reservations[0].Instances[0]; !i.LaunchTime.After(stopped.LaunchTime) || *i.PrivateIpAddress != stopped.Address.String() {
		t.Errorf("started at %s, address %s", i.LaunchTime, *i.PrivateIpAddress)
	}
}

func TestWhatAnInstanceCannotBeIsRefusedAsByEC2(t *testing.T) {
	stopping, gone := sample(1, fleet.Stopping, nil), sample(2, fleet.Terminated, nil)
	spot := sample(3, fleet.Running, nil)
	spot.Spot = fleet.InterruptionTerminate
	l := newLab(t, stopping, gone, spot)
	client := l.admin()
	_, err := client.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{stopping.ID}})
	refused(t, err, "IncorrectInstanceState", stopping.ID+"' is not in a state from which it can be started")
	_, err = client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{gone.ID}})
	refused(t, err, "IncorrectInstanceState", "stopped")
	_, err = client.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{stopping.ID}})
	refused(t, err, "IncorrectInstanceState", "rebooted")
	_, err = client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{spot.ID}})
	refused(t, err, "UnsupportedOperation", "one-time")
	_, err = client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{"i-0fffffffffffffff0"}})
	refused(t, err, "InvalidInstanceID.NotFound", "i-0fffffffffffffff0")
	_, err = client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{spot.ID}, Hibernate: aws.Bool(true)})
	refused(t, err, "InvalidParameterValue", "Hibernate")
	_, err = l.as("ASIA", "secret", "t").StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{spot.ID}})
	refused(t, err, "UnauthorizedOperation", "ec2:StopInstances")
}

func TestASpotInstanceIsAskedForAndSeen(t *testing.T) {
	l := newLab(t)
	market := func(kind types.SpotInstanceType, behaviour types.InstanceInterruptionBehavior) func(*ec2.RunInstancesInput) {
		return func(in *ec2.RunInstancesInput) {
			in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot, SpotOptions: &types.SpotMarketOptions{
				SpotInstanceType: kind, InstanceInterruptionBehavior: behaviour,
			}}
		}
	}
	for _, c := range []func(*ec2.RunInstancesInput){market("", ""), market(types.SpotInstanceTypePersistent, types.InstanceInterruptionBehaviorStop)} {
		out, err := l.admin().RunInstances(t.Context(), runInput(c))
		if err != nil {
			t.Fatal(err)
		}
		if i := out.Instances[0]; i.InstanceLifecycle != types.InstanceLifecycleTypeSpot || aws.ToString(i.SpotInstanceRequestId) == "" {
			t.Errorf("lifecycle %q, request %q", i.InstanceLifecycle, aws.ToString(i.SpotInstanceRequestId))
		}
	}
	if list := l.fleet.Instances(); list[0].Spot+list[1].Spot != fleet.InterruptionTerminate+fleet.InterruptionStop && list[1].Spot+list[0].Spot != fleet.InterruptionTerminate+fleet.InterruptionStop {
		t.Errorf("interruptions %q and %q", list[0].Spot, list[1].Spot)
	}
	_, err := l.admin().RunInstances(t.Context(), runInput(market(types.SpotInstanceTypeOneTime, types.InstanceInterruptionBehaviorStop)))
	refused(t, err, "InvalidParameterCombination", "one-time")
	_, err = l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeCapacityBlock}
	}))
	refused(t, err, "InvalidParameterValue", "capacity-block")
	out, err := l.admin().DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-lifecycle"), Values: []string{"spot"}}}})
	if err != nil || len(out.Reservations) != 2 {
		t.Errorf("spot instances: %v, %v", out, err)
	}
}
