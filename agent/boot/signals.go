package boot

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const watchUnit = "ovenbird-watch.service"

// afterwards are the phases that follow once the Node is Ready, with status, and do not delay
// that.
func (n *node) afterwards(status Status) []Phase {
	phases := []Phase{
		{Name: "watch", Attempt: time.Minute, Run: n.startWatch},
		{Name: "report", Attempt: 5 * time.Minute, Run: func(ctx context.Context, _ func(string)) error {
			n.tellCluster(ctx, status)
			return ctx.Err()
		}},
	}
	return append(phases, n.signalPhase()...)
}

// signalPhase tells those who wait, if anybody does.
func (n *node) signalPhase() []Phase {
	if !n.signals.Any() {
		return nil
	}
	return []Phase{{Name: "signals", Attempt: time.Minute, Run: func(ctx context.Context, tell func(string)) error {
		tell("those who wait for the node")
		return n.signals.Ready(ctx)
	}}}
}

// listen finds out who waits for the node.
func (n *node) listen(ctx context.Context) error {
	listeners, err := lifecycle.ReadListeners(ctx, func(name string) string { return n.env[name] }, n.Metadata.Tag)
	if err != nil {
		return err
	}
	n.signals = &lifecycle.Signals{
		Root: n.Root, Instance: n.facts.Instance.ID, Listeners: listeners,
		CloudFormation: n.service("CLOUDFORMATION", "cloudformation"), AutoScaling: n.service("AUTO_SCALING", "autoscaling"),
	}
	return nil
}

// orGiveUp returns run, after whose failures those who wait hear of it if no retry mends
// them. The agent goes on all the same: user-data may change.
func (n *node) orGiveUp(run func(context.Context, func(string)) error) func(context.Context, func(string)) error {
	return func(ctx context.Context, tell func(string)) error {
		err := run(ctx, tell)
		var problems nodeconfig.Problems
		if errors.As(err, &problems) {
			n.giveUp(ctx)
		}
		return err
	}
}

func (n *node) giveUp(ctx context.Context) {
	n.facts.Environ = n.Environ // user-data may have failed before this was known
	n.env = n.facts.environment()
	failed := n.listen(ctx)
	if failed == nil {
		failed = errors.Join(n.signals.Failed(ctx), n.leave(ctx))
	}
	if failed != nil {
		n.Log.Warn("cannot tell those who wait for the node that it has failed", zap.Error(failed))
	}
}

// leave lets the instance go as soon as Auto Scaling takes it back, for there is nothing to drain:
// kubelet runs only where the watch does, which then sees to that.
func (n *node) leave(ctx context.Context) error {
	if _, err := lifecycle.ReadConfig(n.Root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	state, err := n.Metadata.TargetState(ctx)
	if err != nil || state != "Terminated" {
		return err
	}
	return n.signals.Leave(ctx)
}

// startWatch leaves the watch what it needs and starts it.
func (n *node) startWatch(ctx context.Context, tell func(string)) error {
	file, err := lifecycle.Config{
		Instance: n.facts.Instance.ID, Region: n.facts.Instance.Region, Node: n.facts.NodeName(),
		Cluster: n.facts.Cluster, Identity: n.facts.kind(), STSEndpoint: n.facts.stsEndpoint(),
		AutoScalingEndpoint: n.signals.AutoScaling.Endpoint, Listeners: n.signals.Listeners,
	}.File()
	if err != nil {
		return err
	}
	if err := n.markStale(watchUnit, []rootfs.File{file}); err != nil {
		return err
	}
	if err := n.Root.Apply(file); err != nil {
		return err
	}
	return n.startUnit(watchUnit)(ctx, tell)
}
