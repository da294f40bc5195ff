package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	// idle is how long the watch waits between two looks, give or take a fifth. AWS says
	// to look every 5 s for Spot interruptions.
	idle = 5 * time.Second
	// busy is the same while pods are being moved.
	busy = 2 * time.Second
	// heartbeat is how often Auto Scaling hears that the drain goes on.
	heartbeat = time.Minute
	// metadataTimeout bounds one look.
	metadataTimeout = 10 * time.Second
)

// DrainIncomplete is the reason of the Node's event that names the pods a drain has left.
const DrainIncomplete = "DrainIncomplete"

// Clock is time as the watch needs it.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// Watcher looks at what is about to happen to the instance, and cordons and drains its Node
// accordingly. Every look begins from what is: it does one round of what is to be done and
// keeps how far it is on disk, so a process that is killed goes on where it was.
type Watcher struct {
	Root     rootfs.Root
	Config   Config
	Metadata *imds.Client
	// Connect returns a client of the API server as the node. It is called each round: the
	// certificate may be a new one.
	Connect     func() (*apiserver.Client, error)
	AutoScaling awscall.Service
	Clock       Clock
	Random      func() float64 // in [0, 1)
	Log         *zap.Logger

	state  State
	silent bool // instance metadata does not answer
	clean  bool // no cordon of the agent's own is on the Node
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	var err error
	if w.state, err = ReadState(w.Root); err != nil {
		w.Log.Warn("begin anew", zap.Error(err))
	}
	for {
		wait := idle
		if w.step(ctx) {
			wait = busy
		}
		wait += time.Duration((w.Random() - 0.5) * 0.4 * float64(wait))
		if err := w.Clock.Sleep(ctx, wait); err != nil {
			return nil //nolint:nilerr // that is how it ends
		}
	}
}

// step makes one round and says whether the next one should come soon.
func (w *Watcher) step(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, metadataTimeout)
	events, err := w.Metadata.Events(limited)
	cancel()
	now := w.Clock.Now()
	if err != nil {
		if !w.silent && ctx.Err() == nil {
			w.Log.Warn("cannot see what is about to happen to the instance", zap.Error(err))
		}
		w.silent = true
		// What was announced is still so. A silence takes nothing back.
		if w.state.Cause == "" {
			return false
		}
		events = imds.Events{}
	} else {
		w.silent = false
	}
	before := w.state.Headline()
	plan := Decide(events, now, w.Config.Listeners.Drain)
	if w.silent {
		plan = w.kept()
	}
	w.begin(plan, now)
	w.state.LastError = ""
	if err := w.act(ctx, plan, now); err != nil {
		w.state.LastError = strings.Join(strings.Fields(err.Error()), " ")
	}
	if err := w.state.write(w.Root); err != nil {
		w.Log.Warn("cannot write the state", zap.Error(err))
	}
	if said := w.state.Headline(); said != before && said != "" {
		w.Log.Info("lifecycle", zap.String("state", said))
	} else if plan.Cause == "" && w.state.LastError != "" {
		w.Log.Warn("lifecycle", zap.String("error", w.state.LastError))
	}
	return plan.Drain && !w.state.Drained
}

// kept is the plan that the state follows.
func (w *Watcher) kept() Plan {
	return Plan{
		Cause: w.state.Cause, Detail: w.state.Detail, Deadline: w.state.Deadline,
		Drain: w.state.Cause != Rebalance,
		Hook:  w.state.Cause == Termination || w.state.Cause == WarmPool,
	}
}

// begin makes the state that of plan. What was done for another cause stays done, but a
// drain starts over: its deadline is another.
func (w *Watcher) begin(plan Plan, now time.Time) {
	if w.state.Cause != plan.Cause {
		if w.state.Cause != "" && plan.Cause == "" {
			w.Log.Info("no longer announced", zap.String("cause", string(w.state.Cause)))
			w.clean = false
		}
		w.state = State{Cause: plan.Cause, Since: now, Cordoned: w.state.Cordoned && plan.Cause != "", Heartbeat: w.state.Heartbeat}
	}
	w.state.Detail = plan.Detail
	if plan.Drain {
		w.state.Deadline = plan.Deadline
		if plan.Deadline.IsZero() {
			w.state.Deadline = w.state.Since.Add(w.Config.Listeners.Drain)
		}
	}
}

func (w *Watcher) act(ctx context.Context, plan Plan, now time.Time) error {
	if plan.Cause == "" {
		w.state.Since = time.Time{}
		return w.uncordon(ctx)
	}
	w.clean = false
	if plan.Cause == WarmPool {
		if err := forgetHook(w.Root); err != nil {
			return err
		}
	}
	// The rest must not wait for a failure of the one before: an instance whose API server
	// is gone still has a deadline, and Auto Scaling an answer to get.
	err := w.cordonAndDrain(ctx, plan)
	if plan.Drain && !w.state.Drained && !now.Before(w.state.Deadline) {
		w.state.Drained = true
		w.Log.Warn("the drain's deadline is past", zap.Strings("left", w.state.Left), zap.Strings("blocked", w.state.Blocked))
		err = errors.Join(err, w.warn(ctx, now))
	}
	if plan.Hook {
		err = errors.Join(err, w.tell(ctx, now))
	}
	return err
}

// uncordon takes back a cordon of the agent's own, of this start or of an earlier one.
func (w *Watcher) uncordon(ctx context.Context) error {
	if w.clean {
		return nil
	}
	client, err := w.Connect()
	if err != nil {
		return err
	}
	if err := client.Uncordon(ctx, w.Config.Node); err != nil {
		return err
	}
	w.clean = true
	return nil
}

func (w *Watcher) cordonAndDrain(ctx context.Context, plan Plan) error {
	if w.state.Cordoned && (!plan.Drain || w.state.Drained) {
		return nil
	}
	client, err := w.Connect()
	if err != nil {
		return err
	}
	if !w.state.Cordoned {
		// Evicted pods must not come back here, so nothing is evicted before.
		if err := client.Cordon(ctx, w.Config.Node, plan.String(), w.state.Since); err != nil {
			return err
		}
		w.state.Cordoned = true
	}
	if !plan.Drain || w.state.Drained {
		return nil
	}
	return w.evict(ctx, client)
}

// warn says in the cluster, where it is still read when the instance is gone, which pods the
// drain has left.
func (w *Watcher) warn(ctx context.Context, now time.Time) error {
	client, err := w.Connect()
	if err != nil {
		return err
	}
	return client.Warn(ctx, w.Config.Node, DrainIncomplete, w.state.Headline(), now)
}

// evict asks once for the eviction of every pod that is not on its way out, and sees what
// is left.
func (w *Watcher) evict(ctx context.Context, client *apiserver.Client) error {
	pods, err := client.PodsOfNode(ctx, w.Config.Node)
	if err != nil {
		return err
	}
	w.state.Left, w.state.Blocked = nil, nil
	var failed error
	for i := range pods {
		pod := &pods[i]
		if stays(pod) {
			continue
		}
		w.state.Left = append(w.state.Left, pod.Namespace+"/"+pod.Name)
		if !pod.DeletionTimestamp.IsZero() {
			continue
		}
		err := client.Evict(ctx, pod)
		switch {
		case errors.Is(err, apiserver.ErrBlocked):
			w.state.Blocked = append(w.state.Blocked, err.Error())
		case err != nil && failed == nil:
			failed = err // one says enough: they are of a kind
		}
	}
	w.state.Drained = len(w.state.Left) == 0
	return failed
}

// stays says whether a drain leaves pod where it is: a DaemonSet would start it anew here,
// the mirror pod of a static pod stands for kubelet's own, and one that has ended is no
// work.
func stays(pod *apiserver.Pod) bool {
	if pod.Annotations[apiserver.MirrorAnnotation] != "" ||
		pod.Status.Phase == apiserver.PodSucceeded || pod.Status.Phase == apiserver.PodFailed {
		return true
	}
	return slices.ContainsFunc(pod.OwnerReferences, func(owner apiserver.Owner) bool { return owner.Controller && owner.Kind == "DaemonSet" })
}

// tell keeps Auto Scaling waiting while the drain goes on, and lets it go on afterwards.
func (w *Watcher) tell(ctx context.Context, now time.Time) error {
	listeners := w.Config.Listeners
	if listeners.TerminationHook == "" || w.state.Told {
		return nil
	}
	if w.state.Drained {
		err := complete(ctx, w.AutoScaling, listeners.Group, listeners.TerminationHook, w.Config.Instance, "CONTINUE")
		if err != nil {
			return fmt.Errorf("end the termination hook: %w", err)
		}
		w.state.Told = true
		return nil
	}
	if now.Sub(w.state.Heartbeat) < heartbeat {
		return nil
	}
	err := nobodyWaits(w.AutoScaling.Query(ctx, autoScalingVersion, "RecordLifecycleActionHeartbeat", url.Values{
		"AutoScalingGroupName": {listeners.Group}, "LifecycleHookName": {listeners.TerminationHook}, "InstanceId": {w.Config.Instance},
	}))
	if err != nil {
		return fmt.Errorf("prolong the termination hook: %w", err)
	}
	w.state.Heartbeat = now
	return nil
}
