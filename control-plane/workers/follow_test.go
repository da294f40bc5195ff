package workers_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

// earlier is what a stack's events begin with: an operation that failed and is over.
var earlier = events(0, "stack CREATE_IN_PROGRESS", "Old CREATE_FAILED once", "stack ROLLBACK_IN_PROGRESS", "stack ROLLBACK_COMPLETE")

func TestAnOperationIsFollowedToItsEnd(t *testing.T) {
	refusal := refused("AccessDenied", "not you")
	for name, test := range map[string]struct {
		batches  [][]types.StackEvent
		pageSize int
		errors   []error // of the looks after the first
		want     []string
		status   string
		failed   string // the first to fail
		err      error
		trouble  int
	}{
		"each event is told once, in order, and none from before": {
			batches: [][]types.StackEvent{
				events(4, "stack UPDATE_IN_PROGRESS", "LaunchTemplate UPDATE_IN_PROGRESS"),
				nil,
				events(6, "LaunchTemplate UPDATE_COMPLETE", "Workers UPDATE_IN_PROGRESS"),
				events(8, "Workers UPDATE_COMPLETE", "stack UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "stack UPDATE_COMPLETE"),
			},
			pageSize: 2,
			want: []string{"demo-workers UPDATE_IN_PROGRESS", "LaunchTemplate UPDATE_IN_PROGRESS", "LaunchTemplate UPDATE_COMPLETE",
				"Workers UPDATE_IN_PROGRESS", "Workers UPDATE_COMPLETE", "demo-workers UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "demo-workers UPDATE_COMPLETE"},
			status: "UPDATE_COMPLETE",
		},
		"throttles and a network that is away are outlived": {
			batches: [][]types.StackEvent{events(4, "stack DELETE_IN_PROGRESS"), nil, nil, events(5, "stack DELETE_COMPLETE")},
			errors:  []error{nil, refused("Throttling", "Rate exceeded"), &net.OpError{Op: "dial", Err: errors.New("connection refused")}},
			want:    []string{"demo-workers DELETE_IN_PROGRESS", "demo-workers DELETE_COMPLETE"},
			status:  "DELETE_COMPLETE", trouble: 2,
		},
		"a refusal ends it": {
			batches: [][]types.StackEvent{events(4, "stack DELETE_IN_PROGRESS")}, errors: []error{nil, refusal},
			want: []string{"demo-workers DELETE_IN_PROGRESS"}, err: refusal,
		},
		"a stack of which nothing is left is deleted": {
			batches: [][]types.StackEvent{events(4, "stack DELETE_IN_PROGRESS")}, errors: []error{nil, refused("ValidationError", "Stack [demo-workers] does not exist")},
			want: []string{"demo-workers DELETE_IN_PROGRESS"}, status: "DELETE_COMPLETE",
		},
		"a deletion that fails names what was in the way": {
			batches: [][]types.StackEvent{events(4, "stack DELETE_IN_PROGRESS", "Group DELETE_FAILED resource sg-1 has a dependent object",
				"stack DELETE_FAILED The following resource(s) failed to delete: [Group].")},
			want:   []string{"demo-workers DELETE_IN_PROGRESS", "Group DELETE_FAILED", "demo-workers DELETE_FAILED"},
			status: "DELETE_FAILED", failed: "Group: resource sg-1 has a dependent object",
		},
		"what is cancelled for another's sake is not what failed": {
			batches: [][]types.StackEvent{events(4, "stack CREATE_IN_PROGRESS", "Role CREATE_FAILED Resource creation cancelled", "Template CREATE_FAILED no such image",
				"stack ROLLBACK_IN_PROGRESS The following resource(s) failed to create: [Role, Template].", "stack ROLLBACK_COMPLETE")},
			want: []string{"demo-workers CREATE_IN_PROGRESS", "Role CREATE_FAILED", "Template CREATE_FAILED",
				"demo-workers ROLLBACK_IN_PROGRESS", "demo-workers ROLLBACK_COMPLETE"},
			status: "ROLLBACK_COMPLETE", failed: "Template: no such image",
		},
		"a stack that fails as a whole says why": {
			batches: [][]types.StackEvent{events(4, "stack UPDATE_IN_PROGRESS", "stack UPDATE_ROLLBACK_IN_PROGRESS Transaction was cancelled", "stack UPDATE_ROLLBACK_COMPLETE")},
			want:    []string{"demo-workers UPDATE_IN_PROGRESS", "demo-workers UPDATE_ROLLBACK_IN_PROGRESS", "demo-workers UPDATE_ROLLBACK_COMPLETE"},
			status:  "UPDATE_ROLLBACK_COMPLETE", failed: "demo-workers: Transaction was cancelled",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &account{batches: append([][]types.StackEvent{earlier}, test.batches...), pageSize: test.pageSize, errors: append([]error{nil}, test.errors...)}
				stack := a.workers()
				operation, err := stack.Delete(t.Context(), workers.State{ID: stackID}) // any operation: it looks at what was before
				if err != nil {
					t.Fatal(err)
				}
				var watcher seen
				outcome, err := stack.Follow(t.Context(), operation, &watcher)
				if !errors.Is(err, test.err) {
					t.Fatalf("followed: %v, want %v", err, test.err)
				}
				if !slices.Equal(watcher.events, test.want) {
					t.Errorf("told of %q, want %q", watcher.events, test.want)
				}
				if outcome.Status != test.status || len(watcher.trouble) != test.trouble {
					t.Errorf("ended with %q after %d troubles, want %q after %d", outcome.Status, len(watcher.trouble), test.status, test.trouble)
				}
				failed := ""
				if outcome.Failure != nil {
					failed = outcome.Failure.LogicalID + ": " + outcome.Failure.Reason
				}
				if failed != test.failed {
					t.Errorf("failed for %q, want %q", failed, test.failed)
				}
			})
		})
	}
}

func TestTheOperationUnderWayIsFollowedFromItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &account{batches: [][]types.StackEvent{slices.Concat(earlier, events(4, "stack UPDATE_IN_PROGRESS", "Workers UPDATE_IN_PROGRESS")), events(6, "stack UPDATE_COMPLETE")}, pageSize: 2}
		var watcher seen
		outcome, err := a.workers().Follow(t.Context(), workers.State{ID: stackID}.Under(), &watcher)
		if err != nil || outcome.Status != "UPDATE_COMPLETE" || outcome.Failure != nil {
			t.Errorf("followed to %+v, %v", outcome, err)
		}
		if want := []string{"demo-workers UPDATE_IN_PROGRESS", "Workers UPDATE_IN_PROGRESS", "demo-workers UPDATE_COMPLETE"}; !slices.Equal(watcher.events, want) {
			t.Errorf("told of %q, want %q", watcher.events, want)
		}
	})
}

func TestAnEndedContextLeavesTheOperationAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := &account{batches: [][]types.StackEvent{events(4, "stack UPDATE_IN_PROGRESS")}}
		a.onLook = func(n int) {
			if n == 3 {
				cancel()
			}
		}
		var watcher seen
		_, err := a.workers().Follow(ctx, workers.State{ID: stackID}.Under(), &watcher)
		if !errors.Is(err, context.Canceled) || len(watcher.events) != 1 || len(a.did) > 0 {
			t.Errorf("ended with %v after %q, having done %q", err, watcher.events, a.did)
		}
	})
}

const console = "\x1b[0;32m[    1.0] Linux\r\n" +
	"ovenbird-agent: [   5.1] metadata done in 0.1s\r\n" +
	"[    6.0] eth0: link up ovenbird-agent: [   9.0] kubelet failed (try 4): no \x1b[31mconfiguration; next try in 2.0s\r\n" +
	"ovenbird-agent: [ 190.0] what to do: See `journalctl -u kubelet`.\r\n\r\n[  200.0] the kernel's last word\n"

// An update whose new nodes do not become Ready: one gave up, one says nothing, one did signal,
// and one is of before.
func TestNodesThatDoNotSignalAreHeard(t *testing.T) {
	instance := func(id string, after time.Duration) ec2types.Instance {
		return ec2types.Instance{InstanceId: aws.String(id), LaunchTime: aws.Time(began.Add(after)), State: &ec2types.InstanceState{Name: ec2types.InstanceStateNameRunning}}
	}
	a := &account{
		batches: [][]types.StackEvent{events(0, "stack UPDATE_IN_PROGRESS", "Workers UPDATE_IN_PROGRESS Received SUCCESS signal with UniqueId i-ready",
			"Workers UPDATE_IN_PROGRESS Received FAILURE signal with UniqueId i-gaveup",
			"Workers UPDATE_FAILED Received 1 SUCCESS signal(s) out of 3. Unable to satisfy 100% MinSuccessfulInstancesPercent requirement",
			"stack UPDATE_ROLLBACK_IN_PROGRESS The following resource(s) failed to update: [Workers].", "stack UPDATE_ROLLBACK_COMPLETE")},
		instances: []ec2types.Instance{instance("i-silent", time.Second), instance("i-gaveup", 2*time.Second), instance("i-ready", time.Second), instance("i-old", -time.Hour)},
		consoles:  map[string]string{"i-gaveup": console},
		activities: []autoscalingtypes.Activity{
			{StatusCode: autoscalingtypes.ScalingActivityStatusCodeFailed, StartTime: aws.Time(began.Add(time.Second)), StatusMessage: aws.String("no capacity")},
			{StatusCode: autoscalingtypes.ScalingActivityStatusCodeSuccessful, StartTime: aws.Time(began.Add(time.Second)), StatusMessage: aws.String("fine")},
			{StatusCode: autoscalingtypes.ScalingActivityStatusCodeFailed, StartTime: aws.Time(began.Add(-time.Hour)), StatusMessage: aws.String("long ago")},
		},
	}
	outcome, err := a.workers().Follow(t.Context(), workers.State{ID: stackID}.Under(), &seen{})
	if err != nil || outcome.Failure == nil {
		t.Fatalf("followed to %+v, %v", outcome, err)
	}
	f := outcome.Failure
	if f.LogicalID != "Workers" || !slices.Equal(f.Launches, []string{"no capacity"}) || f.Problem != "" || len(f.Nodes) != 2 {
		t.Fatalf("explained by %+v", f)
	}
	want := []string{"[   5.1] metadata done in 0.1s", "[   9.0] kubelet failed (try 4): no configuration; next try in 2.0s", "[ 190.0] what to do: See `journalctl -u kubelet`."}
	if n := f.Nodes[0]; n.Instance != "i-gaveup" || n.State != "running" || !n.Agent || !slices.Equal(n.Console, want) {
		t.Errorf("the node that gave up: %+v, want %q", n, want)
	}
	if n := f.Nodes[1]; n.Instance != "i-silent" || !strings.Contains(n.Problem, "does not exist") || len(n.Console) != 0 {
		t.Errorf("the node whose console is gone: %+v", n)
	}
}
