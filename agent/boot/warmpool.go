package boot

import (
	"context"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
)

const (
	// warmPoll is how often an instance in a warm pool looks whether it is wanted.
	warmPoll = 5 * time.Second
	// warmAttempt is longer than an instance waits in a warm pool: an end to the attempt
	// would look like a failure.
	warmAttempt = 365 * 24 * time.Hour
)

// leaveWarmPool holds kubelet back while Auto Scaling keeps the instance in a warm pool:
// no Node may exist for an instance that is about to be stopped. All else is done by then.
// An instance that is stopped there and started again boots anew.
func (n *node) leaveWarmPool(ctx context.Context, tell func(string)) error {
	for waited := false; ; waited = true {
		state, err := n.Metadata.TargetState(ctx)
		if err != nil {
			return err
		}
		if !lifecycle.IsWarm(state) {
			if !waited {
				return nil
			}
			// The certificate may have ended meanwhile, and the API server moved.
			if err := n.identify(ctx, tell); err != nil {
				return err
			}
			return n.awaitAPIServer(ctx, tell)
		}
		tell("the warm pool to let the instance go (" + state + ")")
		if err := n.signals.Warm(ctx); err != nil {
			return err
		}
		if err := n.Clock.Sleep(ctx, warmPoll); err != nil {
			return err
		}
	}
}
