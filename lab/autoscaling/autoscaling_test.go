package autoscaling

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// lab is Auto Scaling over TLS before a real fleet whose instances nobody drives.
type lab struct {
	server *httptest.Server
	fleet  *fleet.Fleet
	groups *Groups
	ahead  *atomic.Int64 // of the real time
}

const (
	one   = "i-00000000000000001"
	two   = "i-00000000000000002"
	three = "i-00000000000000003" // which is stopped
)

func newLab(t *testing.T) lab {
	t.Helper()
	dir := state.Dir(t.TempDir())
	var list []fleet.Instance
	for _, id := range []string{one, two, three} {
		list = append(list, fleet.Instance{ID: id, Type: "t3.medium", Zone: "us-west-2b", State: fleet.Running, Tags: map[string]string{"a": "b"}})
	}
	list[2].State = fleet.Stopped
	if err := state.WriteJSON(dir.Fleet(), list, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Open(fleet.Options{Plan: vpc.Default(), Dir: dir, Now: time.Now, Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ahead := new(atomic.Int64)
	l := lab{fleet: f, ahead: ahead, groups: &Groups{
		Path: filepath.Join(string(dir), "autoscaling.json"), Fleet: f, Subnet: vpc.Default().Subnet, Logger: zaptest.NewLogger(t),
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}}
	if err := l.groups.Open(); err != nil {
		t.Fatal(err)
	}
	l.server = httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{Service{Plan: vpc.Default(), Groups: l.groups}},
		Keys: sdktest.Keys{
			"AKIA": {AccessKeyID: "AKIA", SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"},
			"ASIA": {AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "t", ARN: "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-1"},
		},
		Regions: vpc.Default().Regions(), Now: time.Now, Logger: zaptest.NewLogger(t),
	})
	t.Cleanup(l.server.Close)
	return l
}

func (l lab) as(key, secret, token string) *autoscaling.Client {
	return autoscaling.New(autoscaling.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(l.server.URL), HTTPClient: sdktest.Client(l.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
	})
}

func (l lab) admin() *autoscaling.Client { return l.as("AKIA", "secret", "") }
func (l lab) node() *autoscaling.Client  { return l.as("ASIA", "secret", "t") }

// run ends actions whose time is up until the test ends.
func (l lab) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { l.groups.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

// group makes the group "workers" with hooks for the given transitions, named after them.
func (l lab) group(t *testing.T, hooks ...string) {
	t.Helper()
	_, err := l.admin().CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("workers"), MinSize: aws.Int32(0), MaxSize: aws.Int32(2), DesiredCapacity: aws.Int32(0),
		VPCZoneIdentifier: aws.String(vpc.Default().Subnets[0].ID + "," + vpc.Default().Subnets[1].ID),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, transition := range hooks {
		_, err := l.admin().PutLifecycleHook(t.Context(), &autoscaling.PutLifecycleHookInput{
			AutoScalingGroupName: aws.String("workers"), LifecycleHookName: aws.String(transition),
			LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_" + transition), HeartbeatTimeout: aws.Int32(60), DefaultResult: aws.String("CONTINUE"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (l lab) attach(t *testing.T, ids ...string) {
	t.Helper()
	if _, err := l.admin().AttachInstances(t.Context(), &autoscaling.AttachInstancesInput{AutoScalingGroupName: aws.String("workers"), InstanceIds: ids}); err != nil {
		t.Fatal(err)
	}
}

func (l lab) terminate(id string) error {
	_, err := l.admin().TerminateInstanceInAutoScalingGroup(context.Background(), &autoscaling.TerminateInstanceInAutoScalingGroupInput{
		InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(true),
	})
	return err
}

func (l lab) complete(hook, id, result string) error {
	_, err := l.node().CompleteLifecycleAction(context.Background(), &autoscaling.CompleteLifecycleActionInput{
		AutoScalingGroupName: aws.String("workers"), LifecycleHookName: &hook, InstanceId: &id, LifecycleActionResult: &result,
	})
	return err
}

// is tells what the group and the fleet say of an instance.
func (l lab) is(t *testing.T, id, lifecycle, target string, s fleet.State) {
	t.Helper()
	out, err := l.node().DescribeAutoScalingInstances(t.Context(), &autoscaling.DescribeAutoScalingInstancesInput{InstanceIds: []string{id}})
	if err != nil || len(out.AutoScalingInstances) != 1 {
		t.Fatalf("%s: %+v, %v", id, out, err)
	}
	d := out.AutoScalingInstances[0]
	if *d.LifecycleState != lifecycle || *d.AutoScalingGroupName != "workers" || *d.AvailabilityZone != "us-west-2b" || *d.HealthStatus != "HEALTHY" {
		t.Errorf("%s is %s in %s, want %s", id, *d.LifecycleState, *d.AutoScalingGroupName, lifecycle)
	}
	for _, i := range l.fleet.Instances() {
		if i.ID == id && (i.Notices.TargetState != target || i.State != s || i.Tags["aws:autoscaling:groupName"] != "workers" || i.Tags["a"] != "b") {
			t.Errorf("%s goes to %q and is %s with %v, want %q and %s", id, i.Notices.TargetState, i.State, i.Tags, target, s)
		}
	}
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}

func TestHooksHoldUpTheLaunchAndTheTerminationOfAnInstance(t *testing.T) {
	l := newLab(t)
	l.group(t, "LAUNCHING", "TERMINATING")
	l.attach(t, one)
	l.is(t, one, "Pending:Wait", "InService", fleet.Running)
	if err := l.complete("LAUNCHING", one, "CONTINUE"); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "InService", "InService", fleet.Running)
	refused(t, l.complete("LAUNCHING", one, "CONTINUE"), "ValidationError", "No active Lifecycle Action found with instance ID "+one)

	if err := l.terminate(one); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "Terminating:Wait", "Terminated", fleet.Running)
	if err := l.terminate(one); err != nil { // again
		t.Error(err)
	}
	if _, err := l.node().RecordLifecycleActionHeartbeat(t.Context(), &autoscaling.RecordLifecycleActionHeartbeatInput{
		AutoScalingGroupName: aws.String("workers"), LifecycleHookName: aws.String("TERMINATING"), InstanceId: aws.String(one),
	}); err != nil {
		t.Error(err)
	}
	if err := l.complete("TERMINATING", one, "CONTINUE"); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "Terminating:Proceed", "Terminated", fleet.ShuttingDown)
}

func TestAnAbandonedLaunchEndsTheInstance(t *testing.T) {
	l := newLab(t)
	l.group(t, "LAUNCHING", "TERMINATING")
	l.attach(t, one)
	if err := l.complete("LAUNCHING", one, "ABANDON"); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "Terminating:Proceed", "Terminated", fleet.ShuttingDown)
}

func TestATerminationGoesOnWhenTheHeartbeatStops(t *testing.T) {
	l := newLab(t)
	l.group(t, "TERMINATING")
	l.attach(t, one)
	if err := l.terminate(one); err != nil {
		t.Fatal(err)
	}
	l.ahead.Store(int64(50 * time.Second))
	if _, err := l.node().RecordLifecycleActionHeartbeat(t.Context(), &autoscaling.RecordLifecycleActionHeartbeatInput{
		AutoScalingGroupName: aws.String("workers"), LifecycleHookName: aws.String("TERMINATING"), InstanceId: aws.String(one),
	}); err != nil {
		t.Fatal(err)
	}
	l.ahead.Store(int64(100 * time.Second)) // past the first deadline, not the second
	if _, err := l.groups.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "Terminating:Wait", "Terminated", fleet.Running)
	l.ahead.Store(int64(111 * time.Second))
	l.run(t)
	for deadline := time.Now().Add(10 * time.Second); l.state(one) != fleet.ShuttingDown; {
		if time.Now().After(deadline) {
			t.Fatal("the instance still runs")
		}
	}
}

func (l lab) state(id string) fleet.State {
	for _, i := range l.fleet.Instances() {
		if i.ID == id {
			return i.State
		}
	}
	return ""
}

func TestAHeartbeatPutsOffTheEndAHundredTimes(t *testing.T) {
	began := time.Unix(0, 0)
	a := action{Hook: hook{Heartbeat: 30}, Began: began, Deadline: began.Add(30 * time.Second)}
	a.beat(began.Add(2990 * time.Second))
	if got := a.Deadline.Sub(began); got != 3000*time.Second {
		t.Errorf("it ends after %s", got)
	}
	a = action{Hook: hook{Heartbeat: 7200}, Began: began}
	a.beat(began.Add(47 * time.Hour))
	if got := a.Deadline.Sub(began); got != 48*time.Hour {
		t.Errorf("it ends after %s", got)
	}
}

func TestAnInstanceThatSomebodyElseEndedLeavesItsGroup(t *testing.T) {
	l := newLab(t)
	l.group(t, "TERMINATING")
	l.attach(t, one, two)
	if _, err := l.fleet.Terminate([]string{one}, true); err != nil {
		t.Fatal(err)
	}
	l.is(t, one, "Terminating:Proceed", "Terminated", fleet.ShuttingDown)
	out, err := l.admin().DescribeAutoScalingGroups(t.Context(), &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"workers"}})
	if err != nil || len(out.AutoScalingGroups) != 1 {
		t.Fatal(out, err)
	}
	if g := out.AutoScalingGroups[0]; *g.DesiredCapacity != 1 || len(g.Instances) != 2 || len(g.AvailabilityZones) != 2 || *g.MaxSize != 2 {
		t.Errorf("the group is %+v", g)
	}
}

func TestGroupsAndTheirWaitingInstancesOutliveTheDaemon(t *testing.T) {
	l := newLab(t)
	l.group(t, "TERMINATING")
	l.attach(t, one)
	if err := l.terminate(one); err != nil {
		t.Fatal(err)
	}
	next := &Groups{Path: l.groups.Path, Fleet: l.fleet, Subnet: vpc.Default().Subnet, Now: func() time.Time { return time.Now().Add(time.Hour) }, Logger: l.groups.Logger}
	if err := next.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := next.step(t.Context()); err != nil || l.state(one) != fleet.ShuttingDown {
		t.Errorf("the instance is %s, %v", l.state(one), err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	l := newLab(t)
	l.group(t)
	admin := l.admin()
	_, err := admin.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("workers"), MinSize: aws.Int32(0), MaxSize: aws.Int32(1), VPCZoneIdentifier: aws.String(vpc.Default().Subnets[0].ID),
	})
	refused(t, err, "AlreadyExists", "workers")
	_, err = admin.CreateAutoScalingGroup(t.Context(), &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("others"), MinSize: aws.Int32(1), MaxSize: aws.Int32(1), VPCZoneIdentifier: aws.String(vpc.Default().Subnets[0].ID),
	})
	refused(t, err, "ValidationError", "do not launch instances")
	attach := func(group string, ids ...string) error {
		_, err := admin.AttachInstances(t.Context(), &autoscaling.AttachInstancesInput{AutoScalingGroupName: &group, InstanceIds: ids})
		return err
	}
	refused(t, attach("others", one), "ValidationError", "AutoScalingGroup name not found")
	refused(t, attach("workers", "i-0fffffffffffffff0"), "ValidationError", "i-0fffffffffffffff0")
	refused(t, attach("workers", three), "ValidationError", "not in correct state")
	l.attach(t, one)
	refused(t, attach("workers", two, one), "ValidationError", "already part of AutoScalingGroup:workers")
	refused(t, l.terminate(two), "ValidationError", "No managed instance found for instance ID: "+two)
	refused(t, l.complete("none", one, "CONTINUE"), "ValidationError", "No active Lifecycle Action found with instance ID "+one)
	refused(t, l.complete("none", one, "PERHAPS"), "ValidationError", "PERHAPS")
	_, err = admin.DeleteAutoScalingGroup(t.Context(), &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: aws.String("workers")})
	refused(t, err, "ResourceInUse", "while there are instances")
	_, err = admin.EnterStandby(t.Context(), &autoscaling.EnterStandbyInput{AutoScalingGroupName: aws.String("workers"), ShouldDecrementDesiredCapacity: aws.Bool(true)})
	refused(t, err, "InvalidAction", "EnterStandby")
	_, err = admin.UpdateAutoScalingGroup(t.Context(), &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: aws.String("workers"), PlacementGroup: aws.String("near")})
	refused(t, err, "ValidationError", "PlacementGroup")
	_, err = l.node().DeleteAutoScalingGroup(t.Context(), &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: aws.String("workers")})
	refused(t, err, "AccessDenied", "autoscaling:DeleteAutoScalingGroup")
	_, err = l.as("AKIA", "wrong", "").DescribeAutoScalingInstances(t.Context(), &autoscaling.DescribeAutoScalingInstancesInput{})
	refused(t, err, "SignatureDoesNotMatch", "")

	if _, err := admin.DeleteAutoScalingGroup(t.Context(), &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: aws.String("workers"), ForceDelete: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if l.state(one) != fleet.ShuttingDown {
		t.Errorf("an instance of a group that was deleted by force is %s", l.state(one))
	}
}

func TestHooksAreDescribed(t *testing.T) {
	l := newLab(t)
	l.group(t, "LAUNCHING", "TERMINATING")
	out, err := l.node().DescribeLifecycleHooks(t.Context(), &autoscaling.DescribeLifecycleHooksInput{AutoScalingGroupName: aws.String("workers"), LifecycleHookNames: []string{"TERMINATING"}})
	if err != nil || len(out.LifecycleHooks) != 1 {
		t.Fatal(out, err)
	}
	h := out.LifecycleHooks[0]
	if *h.LifecycleHookName != "TERMINATING" || *h.LifecycleTransition != terminating || *h.HeartbeatTimeout != 60 || *h.GlobalTimeout != 6000 || *h.DefaultResult != "CONTINUE" {
		t.Errorf("hook %+v", h)
	}
}
