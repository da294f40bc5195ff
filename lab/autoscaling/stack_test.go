package autoscaling_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

// workers is a stack of one group, whose instances signal it. They come from the template
// "nodes".
const workers = `
Parameters:
  Version: {Type: String}
  MinInstancesInService: {Type: Number, Default: 2}
  Pause: {Type: String, Default: PT5M}
  Pool: {Type: String, Default: 'no'}
Conditions:
  Pooled: !Equals [!Ref Pool, 'yes']
Resources:
  Workers:
    Type: AWS::AutoScaling::AutoScalingGroup
    CreationPolicy:
      ResourceSignal: {Count: 2, Timeout: PT5M}
    UpdatePolicy:
      AutoScalingRollingUpdate:
        MinInstancesInService: !Ref MinInstancesInService
        MaxBatchSize: 1
        WaitOnResourceSignals: true
        PauseTime: !Ref Pause
        SuspendProcesses: [AZRebalance, HealthCheck, ReplaceUnhealthy]
    Properties:
      AutoScalingGroupName: workers
      VPCZoneIdentifier: [subnet-0aaaaaaaaaaaaaaaa, subnet-0bbbbbbbbbbbbbbbb]
      MinSize: 2
      MaxSize: 4
      LaunchTemplate: {LaunchTemplateName: nodes, Version: !Ref Version}
      LifecycleHookSpecificationList:
        - {LifecycleHookName: join, LifecycleTransition: 'autoscaling:EC2_INSTANCE_LAUNCHING', HeartbeatTimeout: 300}
        - {LifecycleHookName: drain, LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING', HeartbeatTimeout: 300, DefaultResult: CONTINUE}
      Tags:
        - {Key: colour, Value: red, PropagateAtLaunch: true}
  WarmPool:
    Type: AWS::AutoScaling::WarmPool
    Condition: Pooled
    Properties: {AutoScalingGroupName: !Ref Workers, MinSize: 1, PoolState: Stopped}
  Hook:
    Type: AWS::AutoScaling::LifecycleHook
    Properties:
      AutoScalingGroupName: !Ref Workers
      LifecycleHookName: farewell
      LifecycleTransition: autoscaling:EC2_INSTANCE_TERMINATING
      HeartbeatTimeout: 30
      DefaultResult: CONTINUE
`

// plain is the stack without the hook that nobody ends.
var plain, _, _ = strings.Cut(workers, "  Hook:")

func parameters(pairs []string) (list []types.Parameter) {
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, types.Parameter{ParameterKey: &pair[0], ParameterValue: &pair[1]})
	}
	return list
}

func (w *world) createStack(template string, pairs ...string) {
	w.t.Helper()
	_, err := w.formation.CreateStack(w.t.Context(), &sdk.CreateStackInput{StackName: aws.String("stack"), TemplateBody: &template, Parameters: parameters(pairs)})
	must(w.t, err)
	w.stackIs(types.StackStatusCreateComplete)
}

func (w *world) updateStack(template string, pairs ...string) {
	w.t.Helper()
	_, err := w.formation.UpdateStack(w.t.Context(), &sdk.UpdateStackInput{StackName: aws.String("stack"), TemplateBody: &template, Parameters: parameters(pairs)})
	must(w.t, err)
}

func (w *world) deleteStack() {
	w.t.Helper()
	_, err := w.formation.DeleteStack(w.t.Context(), &sdk.DeleteStackInput{StackName: aws.String("stack")})
	must(w.t, err)
	w.until("deleted", func() bool {
		_, err := w.formation.DescribeStacks(w.t.Context(), &sdk.DescribeStacksInput{StackName: aws.String("stack")})
		return err != nil
	})
}

func (w *world) status() types.StackStatus {
	w.t.Helper()
	out, err := w.formation.DescribeStacks(w.t.Context(), &sdk.DescribeStacksInput{StackName: aws.String("stack")})
	must(w.t, err)
	return out.Stacks[0].StackStatus
}

// stackIs waits until the stack has come to rest, and asks that it be so.
func (w *world) stackIs(want types.StackStatus) {
	w.t.Helper()
	var got types.StackStatus
	w.until("the stack at rest", func() bool {
		got = w.status()
		return !strings.HasSuffix(string(got), "_IN_PROGRESS")
	})
	if got != want {
		w.t.Fatalf("the stack is %s, want %s:\n%s", got, want, strings.Join(w.told(), "\n"))
	}
}

// told are the reasons of the stack's events, the oldest first.
func (w *world) told() (reasons []string) {
	w.t.Helper()
	out, err := w.formation.DescribeStackEvents(w.t.Context(), &sdk.DescribeStackEventsInput{StackName: aws.String("stack")})
	must(w.t, err)
	for _, e := range slices.Backward(out.StackEvents) {
		reasons = append(reasons, *e.LogicalResourceId+" "+string(e.ResourceStatus)+" "+aws.ToString(e.ResourceStatusReason))
	}
	return reasons
}

func (w *world) tells(words string) {
	w.t.Helper()
	told := w.told()
	if !slices.ContainsFunc(told, func(reason string) bool { return strings.Contains(reason, words) }) {
		w.t.Errorf("no event says %q:\n%s", words, strings.Join(told, "\n"))
	}
}

func (w *world) versions(want string) {
	w.t.Helper()
	for _, i := range w.group().Instances {
		if *i.LaunchTemplate.Version != want {
			w.t.Errorf("%s is of version %s, want %s", *i.InstanceId, *i.LaunchTemplate.Version, want)
		}
	}
}

func TestAStackRollsAnUpdateThroughItsGroupWithoutFewerInstancesThanItKeeps(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{signalling, signalling, signalling} })
	w.createStack(plain, "Version", "1")
	first := w.steady(2)
	for _, i := range w.Fleet.Instances() {
		if i.Tags["colour"] != "red" || i.Tags["aws:cloudformation:stack-name"] != "stack" || i.Tags["aws:autoscaling:groupName"] != "workers" {
			t.Errorf("tags of %s: %v", i.ID, i.Tags)
		}
	}

	w.updateStack(plain, "Version", "2")
	least := 2
	w.until("the stack at rest", func() bool {
		ids, _ := w.serving()
		least = min(least, len(ids))
		return !strings.HasSuffix(string(w.status()), "_IN_PROGRESS")
	})
	w.stackIs(types.StackStatusUpdateComplete)
	if least < 2 {
		t.Errorf("%d instances were in service, want 2 all the while:\n%s", least, strings.Join(w.told(), "\n"))
	}
	second := w.steady(2)
	w.versions("2")
	if slices.ContainsFunc(second, func(id string) bool { return slices.Contains(first, id) }) {
		t.Errorf("%v were %v: not all were replaced", second, first)
	}
	w.tells("Rolling update initiated. Terminating 2 obsolete instance(s) in batches of 1, while keeping at least 2 instance(s) in service.")
	w.tells("Temporarily setting autoscaling group MinSize and DesiredCapacity to 3.")
	if g := w.group(); *g.MinSize != 2 || *g.DesiredCapacity != 2 || len(g.SuspendedProcesses) != 0 {
		t.Errorf("after the update the group is %d of at least %d, with %v suspended", *g.DesiredCapacity, *g.MinSize, g.SuspendedProcesses)
	}

	// One that terminates first.
	w.updateStack(plain, "Version", "3", "MinInstancesInService", "1")
	w.stackIs(types.StackStatusUpdateComplete)
	w.steady(2)
	w.versions("3")

	w.deleteStack()
	for _, i := range w.Fleet.Instances() {
		if i.State != fleet.Terminated {
			t.Errorf("%s is %s after the stack", i.ID, i.State)
		}
	}
}

func TestAnUpdateWhoseInstancesFailIsRolledBackWithTheOldOnesUntouched(t *testing.T) {
	for name, bad := range map[string]string{
		"user-data with a mistake":       signalling + "kubelet: wrong\n",
		"user-data that does not signal": userData,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.launcher.with(func() { w.launcher.versions = []string{signalling, bad} })
			w.createStack(plain, "Version", "1")
			first := w.steady(2)
			w.updateStack(plain, "Version", "2", "Pause", "PT3S")
			w.stackIs(types.StackStatusUpdateRollbackComplete)
			if now := w.steady(2); !slices.Equal(now, first) {
				t.Errorf("%v serve now, %v before:\n%s", now, first, strings.Join(w.told(), "\n"))
			}
			if g := w.group(); *g.DesiredCapacity != 2 || *g.MinSize != 2 || *g.LaunchTemplate.Version != "1" {
				t.Errorf("the group is %+v", g)
			}
		})
	}
}

func TestAGroupWhoseUpdateFailedWithoutARollbackCanBeDeleted(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{signalling, signalling + "kubelet: wrong\n"} })
	body := strings.Replace(plain, "[AZRebalance,", "[Terminate,", 1)
	w.createStack(body, "Version", "1")
	w.steady(2)
	_, err := w.formation.UpdateStack(t.Context(), &sdk.UpdateStackInput{
		StackName: aws.String("stack"), TemplateBody: &body, Parameters: parameters([]string{"Version", "2", "Pause", "PT3S"}), DisableRollback: aws.Bool(true),
	})
	must(t, err)
	w.stackIs(types.StackStatusUpdateFailed)
	w.deleteStack()
}

func TestAGroupThatMayNotTerminateIsNotDeleted(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{signalling} })
	w.createStack(plain, "Version", "1")
	_, err := w.client.SuspendProcesses(t.Context(), &autoscaling.SuspendProcessesInput{AutoScalingGroupName: workersName, ScalingProcesses: []string{"Terminate"}})
	must(t, err)
	_, err = w.formation.DeleteStack(t.Context(), &sdk.DeleteStackInput{StackName: aws.String("stack")})
	must(t, err)
	w.stackIs(types.StackStatusDeleteFailed)
	w.tells("the process Terminate of group workers is suspended")
	_, err = w.client.ResumeProcesses(t.Context(), &autoscaling.ResumeProcessesInput{AutoScalingGroupName: workersName})
	must(t, err)
	w.deleteStack()
}

func TestAWarmPoolAndAHookAreResourcesOfTheirOwn(t *testing.T) {
	w := newWorld(t, nil)
	w.launcher.with(func() { w.launcher.versions = []string{signalling} })
	w.createStack(workers, "Version", "1", "Pool", "yes")
	w.until("two in the pool", func() bool { return len(w.pool("Warmed:Stopped")) == 2 })
	if h := w.hooks(); !slices.Contains(h, "farewell") || len(h) != 3 {
		t.Errorf("hooks: %v", h)
	}
	w.updateStack(plain, "Version", "1")
	w.stackIs(types.StackStatusUpdateComplete)
	if h := w.hooks(); len(h) != 2 || len(w.pool("")) != 0 {
		t.Errorf("hooks: %v, pool: %v", h, w.pool(""))
	}
	w.steady(2)
}

func TestWhatAGroupInAStackCannotHaveIsRefusedByName(t *testing.T) {
	w := newWorld(t, nil)
	for from, c := range map[string]struct{ to, want string }{
		"MinSize: 2":                {"MinSize: 2\n      PlacementGroup: near", "PlacementGroup"},
		"MaxBatchSize: 1":           {"MaxBatchSize: 1\n        Pace: slow", "Pace"},
		"LaunchTemplateName: nodes": {"LaunchTemplateName: nodes, Colour: red", "Colour"},
	} {
		body := strings.Replace(plain, from, c.to, 1)
		_, err := w.formation.CreateStack(t.Context(), &sdk.CreateStackInput{StackName: aws.String("stack"), TemplateBody: &body, Parameters: parameters([]string{"Version", "1"})})
		var none *types.AlreadyExistsException
		if err == nil || errors.As(err, &none) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
