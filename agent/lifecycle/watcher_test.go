package lifecycle_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/awscall/awsquerytest"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	nodeName = "ip-10-0-1-5.us-west-2.compute.internal"
	instance = "i-0123456789abcdef0"

	spotPath        = "meta-data/spot/instance-action"
	rebalancePath   = "meta-data/events/recommendations/rebalance"
	maintenancePath = "meta-data/events/maintenance/scheduled"
	targetPath      = "meta-data/autoscaling/target-lifecycle-state"

	complete = "Action=CompleteLifecycleAction AutoScalingGroupName=workers InstanceId=" + instance +
		" LifecycleActionResult=CONTINUE LifecycleHookName=drain Version=2011-01-01"
	beat = "Action=RecordLifecycleActionHeartbeat AutoScalingGroupName=workers InstanceId=" + instance +
		" LifecycleHookName=drain Version=2011-01-01"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// credentials are those of the instance's role.
var credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "the-secret-key", SessionToken: "the-session-token"}, nil
})

// world is all that is around the watch. Its clock is moved by sleeping, which first does
// what is due to happen.
type world struct {
	t        *testing.T
	metadata *imdstest.Server
	server   *apiservertest.Server
	aws      *awsquerytest.Server
	root     rootfs.Root
	now      time.Time
	round    func() bool // called after each round; true ends the watch
	cancel   context.CancelFunc
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, metadata: imdstest.Start(t, nil), server: apiservertest.Start(t), aws: awsquerytest.Start(t),
		root: rootfs.Root(t.TempDir()), now: start,
	}
	w.server.Token = func(string) string { return "system:node:" + nodeName }
	w.server.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}})
	w.pod("web", nil)
	return w
}

// pod puts a pod of the default namespace on the node, changed by change.
func (w *world) pod(name string, change func(*corev1.Pod)) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "1"}, Spec: corev1.PodSpec{NodeName: nodeName}}
	if change != nil {
		change(pod)
	}
	w.server.SetPod(pod)
}

func (w *world) Now() time.Time { return w.now }

func (w *world) Sleep(ctx context.Context, d time.Duration) error {
	if w.round() {
		w.cancel()
	}
	w.now = w.now.Add(d)
	return ctx.Err()
}

// watch runs a fresh watch until done says so after a round.
func (w *world) watch(done func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	w.cancel = cancel
	rounds := 0
	w.round = func() bool {
		if rounds++; rounds > 1000 {
			w.t.Fatalf("still going after %d rounds: %+v", rounds, w.state())
		}
		return done()
	}
	client, err := apiserver.New(apiserver.Config{
		Endpoint: w.server.URL, CA: w.server.CA, Token: func(context.Context) (string, error) { return "token", nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	watcher := &lifecycle.Watcher{
		Root: w.root, Metadata: imds.New(w.metadata.URL, nil),
		Config: lifecycle.Config{Instance: instance, Node: nodeName, Listeners: lifecycle.Listeners{
			Group: "workers", TerminationHook: "drain", Drain: 5 * time.Minute,
		}},
		Connect: func() (*apiserver.Client, error) { return client, nil },
		AutoScaling: awscall.Service{
			Name: "autoscaling", Region: "us-west-2", Endpoint: w.aws.URL,
			Credentials: credentials, Client: w.aws.Client, Now: time.Now,
		},
		Clock: w, Random: func() float64 { return 0.5 }, Log: zap.NewNop(),
	}
	if err := watcher.Run(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state() lifecycle.State {
	w.t.Helper()
	state, err := lifecycle.ReadState(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	return state
}

func (w *world) drained() bool { return w.state().Drained }

// after is done once that many rounds are.
func after(rounds int) func() bool {
	return func() bool { rounds--; return rounds <= 0 }
}

func (w *world) spot(in time.Duration) {
	w.metadata.Set(spotPath, fmt.Sprintf(`{"action":"terminate","time":%q}`, w.now.Add(in).Format(time.RFC3339)))
}

// mustBe checks whether the Node is cordoned, by the agent or not at all, and which pods run.
func (w *world) mustBe(cordoned bool, pods ...string) {
	w.t.Helper()
	node := w.server.Node(nodeName)
	if node.Spec.Unschedulable != cordoned || (node.Annotations[apiserver.CordonAnnotation] != "") != cordoned {
		w.t.Errorf("unschedulable is %v with annotations %v, want cordoned %v", node.Spec.Unschedulable, node.Annotations, cordoned)
	}
	if got := w.server.Pods(); !slices.Equal(got, pods) {
		w.t.Errorf("pods are %q, want %q", got, pods)
	}
}

func TestEachEventHasItsConsequences(t *testing.T) {
	maintenance := func(state string, in time.Duration) string {
		return fmt.Sprintf(`[{"EventId":"instance-event-1","Code":"instance-retirement","State":%q,"NotBefore":%q}]`,
			state, start.Add(in).Format("2 Jan 2006 15:04:05 GMT"))
	}
	for name, test := range map[string]struct {
		path, answer string
		cordoned     bool
		drained      bool
		told         bool
	}{
		"nothing does nothing":                             {path: targetPath, answer: "InService"},
		"a Spot interruption drains":                       {path: spotPath, answer: `{"action":"terminate","time":"2026-11-26T12:02:00Z"}`, cordoned: true, drained: true},
		"a rebalance recommendation only cordons":          {path: rebalancePath, answer: `{"noticeTime":"2026-11-26T11:59:00Z"}`, cordoned: true},
		"scale-in drains and lets Auto Scaling go on":      {path: targetPath, answer: "Terminated", cordoned: true, drained: true, told: true},
		"a return to the warm pool drains and lets go":     {path: targetPath, answer: "Warmed:Stopped", cordoned: true, drained: true, told: true},
		"maintenance that is near drains":                  {path: maintenancePath, answer: maintenance("active", 4*time.Minute), cordoned: true, drained: true},
		"maintenance that may be at any moment drains":     {path: maintenancePath, answer: maintenance("active", -time.Minute), cordoned: true, drained: true},
		"maintenance that is far away does nothing yet":    {path: maintenancePath, answer: maintenance("active", time.Hour)},
		"maintenance that is done or cancelled is no more": {path: maintenancePath, answer: maintenance("completed", time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.metadata.Set(test.path, test.answer)
			w.watch(after(3))
			var pods []string
			if !test.drained {
				pods = []string{"default/web"}
			}
			w.mustBe(test.cordoned, pods...)
			if w.drained() != test.drained {
				t.Errorf("state is %+v", w.state())
			}
			var want []string
			if test.told {
				want = []string{beat, complete}
			}
			// The heartbeat comes only if the first round did not drain everything.
			if got := w.aws.Calls(); !slices.Equal(got, want) && (!test.told || !slices.Equal(got, want[1:])) {
				t.Errorf("AWS heard %q, want %q", got, want)
			}
		})
	}
}

func TestADrainLeavesPodsThatBelongToTheNode(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.pod("agent", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "agent", Controller: &yes}}
	})
	w.pod("static", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })
	w.pod("ended", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	w.pod("elsewhere", func(p *corev1.Pod) { p.Spec.NodeName = "another" })
	w.spot(2 * time.Minute)
	w.watch(w.drained)
	w.mustBe(true, "default/agent", "default/elsewhere", "default/ended", "default/static")
}

func TestADrainWaitsForPodsThatTerminate(t *testing.T) {
	w := newWorld(t)
	grace := int64(30)
	w.pod("web", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &grace })
	w.metadata.Set(targetPath, "Terminated")
	rounds := after(4)
	w.watch(func() bool {
		if w.drained() {
			t.Error("drained while a pod terminates")
		}
		return rounds()
	})
	if evictions := countCalls(w, "eviction"); evictions != 1 {
		t.Errorf("%d evictions, want 1", evictions)
	}
	w.server.DeletePod("default/web")
	w.watch(func() bool { return w.state().Told })
	if got, want := w.aws.Calls(), []string{beat, complete}; !slices.Equal(got, want) {
		t.Errorf("AWS heard %q, want %q", got, want)
	}
}

func countCalls(w *world, part string) (n int) {
	for _, call := range w.server.Calls() {
		if strings.Contains(call, part) {
			n++
		}
	}
	return n
}

func TestABudgetIsHonouredUntilItLetsGo(t *testing.T) {
	w := newWorld(t)
	w.pod("free", nil)
	w.server.SetBudget("default/web", "one-web")
	w.spot(2 * time.Minute)
	w.watch(after(5))
	w.mustBe(true, "default/web")
	if said := w.state().Headline(); !strings.Contains(said, "pods left: default/web") || !strings.Contains(said, "disruption budget one-web") {
		t.Errorf("the state says %q", said)
	}
	w.server.SetBudget("default/web", "")
	w.watch(w.drained)
	w.mustBe(true)
}

func TestABudgetThatNeverLetsGoIsNamedAtTheDeadline(t *testing.T) {
	w := newWorld(t)
	w.server.SetBudget("default/web", "one-web")
	w.metadata.Set(targetPath, "Terminated")
	w.watch(func() bool { return w.state().Told })
	w.mustBe(true, "default/web")
	if said := w.state().Headline(); !strings.Contains(said, "deadline is past with pods left: default/web") || !strings.Contains(said, "one-web") {
		t.Errorf("the state says %q", said)
	}
	if events := w.server.Events(); len(events) != 1 || events[0].Reason != lifecycle.DrainIncomplete || events[0].Type != corev1.EventTypeWarning ||
		!strings.Contains(events[0].Message, "default/web") || !strings.Contains(events[0].Message, "one-web") {
		t.Errorf("the Node's events are %+v", events)
	}
	if took := w.now.Sub(start); took < 5*time.Minute || took > 5*time.Minute+10*time.Second {
		t.Errorf("it took %s, want 5m", took)
	}
	// One heartbeat a minute, and one answer.
	calls := w.aws.Calls()
	if n := len(calls); n != 6 || calls[0] != beat || calls[n-1] != complete {
		t.Errorf("AWS heard %q", calls)
	}
}

func TestASpotDrainGivesUpBeforeTheInstanceGoes(t *testing.T) {
	w := newWorld(t)
	w.server.SetBudget("default/web", "one-web")
	w.spot(2 * time.Minute)
	w.watch(w.drained)
	if took := w.now.Sub(start); took < 100*time.Second || took > 115*time.Second {
		t.Errorf("it took %s, want 1m45s", took)
	}
}

func TestADrainOutlastsAnAPIServerThatIsAway(t *testing.T) {
	w := newWorld(t)
	w.server.Fail(http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusInternalServerError)
	w.spot(2 * time.Minute)
	failed := false
	w.watch(func() bool {
		failed = failed || w.state().LastError != ""
		return w.drained()
	})
	w.mustBe(true)
	if !failed || w.state().LastError != "" {
		t.Errorf("the state never told of the failure, or still does: %+v", w.state())
	}
}

func TestADrainGoesOnWhileMetadataIsSilent(t *testing.T) {
	w := newWorld(t)
	w.server.SetBudget("default/web", "one-web")
	w.spot(2 * time.Minute)
	w.watch(after(2))
	w.metadata.Drop(1000)
	w.watch(after(2))
	w.mustBe(true, "default/web")
	w.server.SetBudget("default/web", "")
	w.watch(w.drained)
	w.mustBe(true)
}

func TestATokenThatIsRefusedIsReplaced(t *testing.T) {
	w := newWorld(t)
	rounds := 0
	w.watch(func() bool {
		rounds++
		switch rounds {
		case 1:
			w.metadata.Revoke()
		case 2:
			w.spot(2 * time.Minute)
		}
		return w.drained()
	})
	tokens := 0
	for _, call := range w.metadata.Calls() {
		if call == "PUT /latest/api/token" {
			tokens++
		}
	}
	if tokens != 2 {
		t.Errorf("%d tokens, want one for all rounds before it was refused and one after", tokens)
	}
}

func TestAWatchThatWasKilledGoesOnWithItsDeadline(t *testing.T) {
	w := newWorld(t)
	w.server.SetBudget("default/web", "one-web")
	w.metadata.Set(targetPath, "Terminated")
	w.watch(after(30))
	deadline := w.state().Deadline
	w.watch(func() bool { return w.state().Told })
	if !w.state().Deadline.Equal(deadline) || !deadline.Equal(start.Add(5*time.Minute)) {
		t.Errorf("the deadline was %s and is %s", deadline, w.state().Deadline)
	}
	if n := countCalls(w, "PATCH"); n != 1 {
		t.Errorf("the Node was changed %d times", n)
	}
}

func TestAnEventThatIsCancelledIsUndone(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set(rebalancePath, `{"noticeTime":"2026-11-26T11:59:00Z"}`)
	w.watch(after(2))
	w.mustBe(true, "default/web")
	w.metadata.Unset(rebalancePath)
	w.watch(after(2)) // a watch of another start, which has only the annotation to go by
	w.mustBe(false, "default/web")
	if said := w.state().Headline(); said != "" {
		t.Errorf("the state says %q", said)
	}
}

func TestACordonOfSomebodyElseStays(t *testing.T) {
	w := newWorld(t)
	w.server.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{Unschedulable: true}})
	w.spot(2 * time.Minute)
	w.watch(w.drained)
	w.metadata.Unset(spotPath)
	w.watch(after(2))
	if node := w.server.Node(nodeName); !node.Spec.Unschedulable || len(node.Annotations) > 0 {
		t.Errorf("the Node is %+v", node)
	}
}

func TestAutoScalingIsToldAgainWhenItThrottles(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set(targetPath, "Terminated")
	w.aws.Fail(awsquerytest.Failure{Status: 400, Code: "Throttling", Message: "Rate exceeded"}, awsquerytest.Failure{Status: 400, Code: "Throttling", Message: "Rate exceeded"})
	w.watch(func() bool { return w.state().Told })
	if calls := w.aws.Calls(); calls[len(calls)-1] != complete || len(calls) < 3 {
		t.Errorf("AWS heard %q", calls)
	}
}
