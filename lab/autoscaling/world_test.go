package autoscaling_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	cloudformationsdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/fakeinstance"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/labtest"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// world is the lab with a clock of its own for Auto Scaling, which launches from one template.
type world struct {
	*labtest.Lab
	t         *testing.T
	dir       state.Dir
	launcher  *launcher
	client    *sdk.Client
	formation *cloudformationsdk.Client
	ahead     atomic.Int64 // of the real time, as the groups have it
}

// launcher has one launch template, "nodes", of any number of versions.
type launcher struct {
	fleet *fleet.Fleet

	mu       sync.Mutex
	versions []string // user-data of each
	failing  error    // of the next launches
	types    map[string]error
	launches int
}

func (l *launcher) Resolve(name, version string) (autoscaling.LaunchTemplate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.versions)
	if version != "$Latest" && version != "$Default" && version != "" {
		_, _ = fmt.Sscan(version, &n)
	}
	if name != "nodes" && name != "lt-1" || n > len(l.versions) {
		return autoscaling.LaunchTemplate{}, query.Refuse("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
	}
	return autoscaling.LaunchTemplate{ID: "lt-1", Name: "nodes", Version: n, InstanceType: "t3.medium"}, nil
}

func (l *launcher) Launch(_ context.Context, o autoscaling.Launch) (fleet.Instance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.launches++
	if err := errors.Join(l.failing, l.types[o.Type]); err != nil {
		if l.failing != nil {
			return fleet.Instance{}, l.failing
		}
		return fleet.Instance{}, l.types[o.Type]
	}
	kind, _ := fleet.FindType(o.Type)
	order := fleet.Order{
		Min: 1, Max: 1, ImageID: "ami-1", Type: kind, SubnetID: o.SubnetID, ClientToken: o.Token, Tags: o.Tags, MetadataTags: true,
		Profile: labtest.Profile, UserData: []byte(l.versions[o.Template.Version-1]),
	}
	if o.Spot {
		order.Spot = fleet.InterruptionTerminate
	}
	list, err := l.fleet.Launch(order)
	if err != nil {
		return fleet.Instance{}, err
	}
	return list[0], nil
}

func (l *launcher) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// userData makes an instance signal and end its hooks.
const userData = `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: demo}
  instance:
    environment:
      default:
        OVENBIRD_LAUNCH_HOOK: join
        OVENBIRD_TERMINATION_HOOK: drain
`

// signalling does so to a stack, too.
const signalling = userData + `        OVENBIRD_SIGNAL_STACK: stack
        OVENBIRD_SIGNAL_RESOURCE: Workers
`

func newWorld(t *testing.T, chances *fakeinstance.Chances) *world {
	t.Helper()
	w := &world{t: t, dir: state.Dir(t.TempDir())}
	w.open(chances, []string{userData})
	return w
}

// open starts everything, as a new daemon does.
func (w *world) open(chances *fakeinstance.Chances, versions []string) {
	w.Lab = labtest.Start(w.t, labtest.Options{Dir: w.dir, Chances: chances, Groups: func(g *autoscaling.Groups, f *fleet.Fleet) {
		w.launcher = &launcher{fleet: f, versions: versions, types: map[string]error{}}
		g.Launcher, g.Now = w.launcher, func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	}})
	w.client, w.formation = sdk.NewFromConfig(w.Config()), cloudformationsdk.NewFromConfig(w.Config())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// forward moves the groups' clock.
func (w *world) forward(by time.Duration) {
	w.ahead.Add(int64(by))
	w.Groups.Wake()
}

// patience is how long a test waits for what must come; the machine may be loaded.
const patience = 60 * time.Second

// until waits for done, which it asks whenever an instance or a group may have changed.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not %s: %s", what, w.picture())
		}
		select {
		case <-w.Fleet.Changed():
		case <-time.After(20 * time.Millisecond): // the groups' own changes
		}
	}
}

// picture is what a failed test shows.
func (w *world) picture() string {
	var b strings.Builder
	g := w.group()
	fmt.Fprintf(&b, "desired %d", *g.DesiredCapacity)
	for _, i := range g.Instances {
		fmt.Fprintf(&b, "\n  %s %s %s", *i.InstanceId, i.LifecycleState, *i.HealthStatus)
	}
	for n, a := range w.activities() {
		if n < 10 {
			fmt.Fprintf(&b, "\n  %s %s: %s", a.StatusCode, *a.Description, aws.ToString(a.StatusMessage))
		}
	}
	return b.String()
}

func (w *world) group() types.AutoScalingGroup {
	w.t.Helper()
	out, err := w.client.DescribeAutoScalingGroups(w.t.Context(), &sdk.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"workers"}})
	if err != nil || len(out.AutoScalingGroups) != 1 {
		w.t.Fatal(out, err)
	}
	return out.AutoScalingGroups[0]
}

func (w *world) activities() []types.Activity {
	w.t.Helper()
	out, err := w.client.DescribeScalingActivities(w.t.Context(), &sdk.DescribeScalingActivitiesInput{AutoScalingGroupName: aws.String("workers")})
	must(w.t, err)
	return out.Activities
}

// create makes the group "workers" of the template "nodes" over all subnets.
func (w *world) create(size int32, change ...func(*sdk.CreateAutoScalingGroupInput)) {
	w.t.Helper()
	plan := vpc.Default()
	in := &sdk.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("workers"), MinSize: aws.Int32(0), MaxSize: aws.Int32(100), DesiredCapacity: &size,
		LaunchTemplate:    &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("nodes"), Version: aws.String("$Latest")},
		VPCZoneIdentifier: aws.String(plan.Subnets[0].ID + "," + plan.Subnets[1].ID + "," + plan.Subnets[2].ID),
	}
	for _, c := range change {
		c(in)
	}
	_, err := w.client.CreateAutoScalingGroup(w.t.Context(), in)
	must(w.t, err)
}

// hooked gives the group its hooks.
func hooked(in *sdk.CreateAutoScalingGroupInput) {
	for name, transition := range map[string]string{"join": "LAUNCHING", "drain": "TERMINATING"} {
		in.LifecycleHookSpecificationList = append(in.LifecycleHookSpecificationList, types.LifecycleHookSpecification{
			LifecycleHookName: aws.String(name), LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_" + transition), HeartbeatTimeout: aws.Int32(60),
		})
	}
}

func (w *world) desire(size int32) {
	w.t.Helper()
	_, err := w.client.SetDesiredCapacity(w.t.Context(), &sdk.SetDesiredCapacityInput{AutoScalingGroupName: aws.String("workers"), DesiredCapacity: &size})
	must(w.t, err)
}

// serving are the instances in service, when there are no others.
func (w *world) serving() (ids []string, alone bool) {
	alone = true
	for _, i := range w.group().Instances {
		if i.LifecycleState != types.LifecycleStateInService {
			alone = false
			continue
		}
		ids = append(ids, *i.InstanceId)
	}
	slices.Sort(ids)
	return ids, alone
}

// steady waits until size instances are in service and no other is there.
func (w *world) steady(size int) (ids []string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d in service", size), func() bool {
		var alone bool
		ids, alone = w.serving()
		return alone && len(ids) == size
	})
	return ids
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}
