package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go.uber.org/zap"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// notes keeps what was recorded.
type notes struct {
	mu  sync.Mutex
	all []Event
}

func (n *notes) Record(event Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, event)
}

// node returns a Node of the instance.
func node(name, id string, ready bool) *core.Node {
	status := core.ConditionUnknown
	if ready {
		status = core.ConditionTrue
	}
	return &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: name, UID: apitypes.UID(name)}, Spec: core.NodeSpec{ProviderID: "aws:///us-west-2a/" + id},
		Status: core.NodeStatus{Conditions: []core.NodeCondition{{Type: core.NodeReady, Status: status}}},
	}
}

func inState(state types.InstanceStateName) func(*types.Instance) {
	return func(i *types.Instance) { i.State.Name = state }
}

func named(name string) func(*types.Instance) {
	return func(i *types.Instance) { i.PrivateDnsName = aws.String(name) }
}

// census is a cluster with one Node and what EC2 knows of its instance.
type census struct {
	*testing.T
	ec2    *cloud
	client *fake.Clientset
	notes  *notes
	roster *Roster
}

// count runs a roster over a cluster in a bubble where time passes at once.
func count(t *testing.T, nodes []*core.Node, instances []types.Instance, test func(*census)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &census{T: t, ec2: &cloud{instances: instances}, client: fake.NewClientset(), notes: &notes{}}
		for _, n := range nodes {
			if _, err := c.client.CoreV1().Nodes().Create(t.Context(), n, meta.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.roster = NewRoster(NewInstances(c.ec2, nil), c.notes, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.roster.Run(ctx, kitchen, c.client) }()
		defer func() {
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the roster ended with %v", err)
			}
		}()
		time.Sleep(time.Second) // the first look is over
		synctest.Wait()
		test(c)
	})
}

func (c *census) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *census) has(name string) bool {
	c.Helper()
	_, err := c.client.CoreV1().Nodes().Get(c.Context(), name, meta.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		c.Fatal(err)
	}
	return err == nil
}

func TestANodeGoesWithItsInstanceAndNotBefore(t *testing.T) {
	tests := []struct {
		name      string
		node      *core.Node
		instances []types.Instance
		class     string // empty: it stays
	}{
		{"terminated", node(nodeName, nodeID, false), []types.Instance{inEC2(inState("terminated"))}, ClassTerminated},
		{"forgotten by EC2", node(nodeName, nodeID, false), nil, ClassUnknown},
		{"terminated, while its Node is Ready", node(nodeName, nodeID, true), []types.Instance{inEC2(inState("terminated"))}, ClassTerminated},
		{"forgotten by EC2, while its Node is Ready", node(nodeName, nodeID, true), nil, ""},
		{"running", node(nodeName, nodeID, false), []types.Instance{inEC2()}, ""},
		{"running under another name", node(nodeName, nodeID, false), []types.Instance{inEC2(named("ip-10-0-1-3"))}, ClassUnknown},
		{"running under another name, while the Node is Ready", node(nodeName, nodeID, true), []types.Instance{inEC2(named("ip-10-0-1-3"))}, ""},
		{"running under a name that EC2 does not tell", node(nodeName, nodeID, false), []types.Instance{inEC2(named(""))}, ""},
		{"stopped", node(nodeName, nodeID, false), []types.Instance{inEC2(inState("stopped"))}, ""},
		{"stopping", node(nodeName, nodeID, false), []types.Instance{inEC2(inState("stopping"))}, ""},
		{"on its way down", node(nodeName, nodeID, false), []types.Instance{inEC2(inState("shutting-down"))}, ""},
		{"of another cloud", &core.Node{ObjectMeta: meta.ObjectMeta{Name: nodeName}, Spec: core.NodeSpec{ProviderID: "kind://x"}}, nil, ""},
		{"of no cloud", &core.Node{ObjectMeta: meta.ObjectMeta{Name: nodeName}}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			count(t, []*core.Node{tt.node}, tt.instances, func(c *census) {
				if !c.has(nodeName) {
					t.Fatal("removed after one look")
				}
				c.after(10 * time.Minute)
				if c.has(nodeName) != (tt.class == "") {
					t.Errorf("there: %t", c.has(nodeName))
				}
				if tt.class == "" {
					return
				}
				if len(c.notes.all) != 1 || c.notes.all[0].Class != tt.class || c.notes.all[0].Node != nodeName || c.notes.all[0].Instance != nodeID {
					t.Errorf("recorded %+v", c.notes.all)
				}
				events, err := c.client.CoreV1().Events("default").List(c.Context(), meta.ListOptions{})
				if err != nil || len(events.Items) != 1 || events.Items[0].InvolvedObject.UID != tt.node.UID || !strings.Contains(events.Items[0].Message, nodeID) {
					t.Errorf("events %+v, %v", events.Items, err)
				}
			})
		})
	}
}

func TestANodeThatIsNamedByItsInstanceIDStays(t *testing.T) {
	count(t, []*core.Node{node(nodeID, nodeID, false)}, []types.Instance{inEC2()}, func(c *census) {
		c.after(10 * time.Minute)
		if !c.has(nodeID) {
			t.Error("removed while its instance runs")
		}
	})
}

func TestTwoLooksMustAgreeInARow(t *testing.T) {
	count(t, []*core.Node{node(nodeName, nodeID, false)}, nil, func(c *census) {
		c.ec2.set(nil, inEC2()) // EC2 was behind the times
		c.after(lookEvery)
		c.ec2.set(nil)
		c.after(lookEvery)
		if !c.has(nodeName) {
			t.Error("removed by two looks with another between")
		}
		c.after(lookEvery)
		if c.has(nodeName) {
			t.Error("not removed by two looks in a row")
		}
	})
}

func TestTroubleWithEC2RemovesNothing(t *testing.T) {
	count(t, []*core.Node{node(nodeName, nodeID, false)}, nil, func(c *census) {
		c.ec2.set(errors.New("throttled"))
		c.after(time.Hour)
		if !c.has(nodeName) {
			t.Error("removed while EC2 failed")
		}
		c.ec2.set(nil)
		c.after(2 * lookEvery)
		if c.has(nodeName) {
			t.Error("not removed afterwards")
		}
	})
}

func TestReadyNodesCostFewCalls(t *testing.T) {
	var nodes []*core.Node
	var instances []types.Instance
	for n := range 2 * batch {
		id, name := fmt.Sprintf("i-%08x", n), fmt.Sprintf("ip-10-0-1-%d", n)
		nodes = append(nodes, node(name, id, true))
		instances = append(instances, inEC2(func(i *types.Instance) { i.InstanceId, i.PrivateDnsName = aws.String(id), aws.String(name) }))
	}
	count(t, nodes, instances, func(c *census) {
		c.after(readyEvery + lookEvery)
		if calls := c.ec2.calls.Load(); calls != 4 {
			t.Errorf("%d calls for two looks at %d Nodes, want 4", calls, len(nodes))
		}
	})
}

func TestManyNodesAreNotRemovedAtOnce(t *testing.T) {
	var nodes []*core.Node
	for n := range 5 * removalBurst {
		nodes = append(nodes, node(fmt.Sprintf("ip-10-0-1-%d", n), fmt.Sprintf("i-%08x", n), false))
	}
	count(t, nodes, nil, func(c *census) {
		left := func() int {
			all, err := c.client.CoreV1().Nodes().List(c.Context(), meta.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return len(all.Items)
		}
		c.after(lookEvery)
		if gone := len(nodes) - left(); gone != removalBurst {
			t.Errorf("%d Nodes removed at once, want %d", gone, removalBurst)
		}
		c.after(time.Minute + lookEvery)
		if left() != 0 {
			t.Errorf("%d Nodes are left after all", left())
		}
	})
}

func TestANameIsFreeOnlyWithoutTheNodeOfAnInstanceThatIsGone(t *testing.T) {
	const formerID = "i-0fedcba9876543210"
	former := func(state types.InstanceStateName, change ...func(*types.Instance)) types.Instance {
		return inEC2(append(change, inState(state), func(i *types.Instance) { i.InstanceId = aws.String(formerID) })...)
	}
	tests := []struct {
		name      string
		node      *core.Node
		instances []types.Instance
		stays     bool
		want      string // empty: the name is free
	}{
		{"no Node", node("ip-10-0-9-9", "i-00000001", true), nil, false, ""},
		{"its own Node", node(nodeName, nodeID, true), nil, true, ""},
		{"a Node of no instance", &core.Node{ObjectMeta: meta.ObjectMeta{Name: nodeName}}, nil, true, ""},
		{"a Node of a terminated instance", node(nodeName, formerID, true), []types.Instance{former("terminated")}, false, ""},
		{"a Node of an instance that EC2 has forgotten", node(nodeName, formerID, true), nil, false, ""},
		{"a Node of a stopped instance", node(nodeName, formerID, true), []types.Instance{former("stopped")}, true, "which is stopped"},
		{"a Node of a running instance", node(nodeName, formerID, true), []types.Instance{former("running")}, true, "which is running"},
		{"a Node that says to be of a running instance of another name", node(nodeName, formerID, true), []types.Instance{former("running", named("ip-10-0-1-3"))}, false, ""},
		{"a Node of an instance of which EC2 tells no name", node(nodeName, formerID, true), []types.Instance{former("shutting-down", named(""))}, true, "which is shutting-down"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			count(t, []*core.Node{tt.node}, append(tt.instances, inEC2()), func(c *census) {
				err := c.roster.Vacate(c.Context(), kitchen.Name, instance())
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if c.has(nodeName) != tt.stays {
					t.Errorf("the Node is there: %t", c.has(nodeName))
				}
				if !tt.stays && tt.node.Name == nodeName && !slices.ContainsFunc(c.notes.all, func(e Event) bool { return e.Class == ClassSuperseded }) {
					t.Errorf("recorded %+v", c.notes.all)
				}
			})
		})
	}
}

func TestANameIsNotFreeWhileTheNodesAreNotKnown(t *testing.T) {
	roster := NewRoster(NewInstances(&cloud{}, nil), &notes{}, zap.NewNop())
	if err := roster.Vacate(t.Context(), kitchen.Name, instance()); err == nil {
		t.Error("free without a look")
	}
}
