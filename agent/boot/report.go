package boot

import (
	"context"
	"fmt"

	"go.uber.org/zap"
)

// patience is for how long a phase may fail without a word on the console, in seconds:
// the network, for one, comes up beside the agent.
const patience = 1.5

// worthTelling is how long a phase takes that has a line on the console, in seconds: serial
// ports are slow, and what is done in 0.0s had nothing to do.
const worthTelling = 0.05

// changed tells everyone who may be looking that a phase changed: the status file, the
// service manager, the journal and the console. None of them may keep the node from
// joining.
func (n *node) changed(status Status, phase PhaseStatus) {
	status.Traffic = n.Traffic.Counts()
	n.write(status, phase.State == Done || phase.State == Retrying)
	if headline := status.Headline(); headline != n.headline {
		n.headline = headline
		if err := n.Notify("STATUS=" + headline); err != nil {
			n.Log.Warn("cannot tell systemd the status", zap.Error(err))
		}
	}
	switch {
	case phase.State == Done:
		took := *phase.Finished - *phase.Started
		n.Log.Info("phase done", zap.String("phase", phase.Name), zap.Float64("seconds", took), zap.Int("attempts", phase.Attempts))
		if took >= worthTelling {
			n.console(*phase.Finished, "%s done in %.1fs", phase.Name, took)
		}
	case phase.State == Retrying:
		now := n.Clock.SinceBoot().Seconds()
		n.Log.Warn("phase failed, will be tried again", zap.String("phase", phase.Name), zap.Int("attempt", phase.Attempts),
			zap.String("error", phase.LastError), zap.Float64("in", *phase.NextTry-now))
		// On the console, ever fewer; and none while what fails may only be about to come.
		if phase.Attempts&(phase.Attempts-1) == 0 && now-*phase.Started > patience {
			n.console(now, "%s failed (try %d): %s; next try in %.1fs", phase.Name, phase.Attempts, phase.LastError, *phase.NextTry-now)
		}
	case phase.Detail != "":
		n.Log.Info("phase waits", zap.String("phase", phase.Name), zap.String("for", phase.Detail))
	}
}

// write writes the status, and the metrics too if asked: who scrapes them does so every few seconds.
func (n *node) write(status Status, metrics bool) {
	err := status.write(n.Root)
	if err == nil && metrics {
		err = status.writeMetrics(n.Root)
	}
	if err != nil {
		n.Log.Warn("cannot write the status", zap.Error(err))
	}
}

// failsForLong tells the console what there is to do: nobody can log in to a node that has
// never joined.
func (n *node) failsForLong(ctx context.Context, phase PhaseStatus) {
	now := phase.Failed[len(phase.Failed)-1]
	n.console(now, "%s has failed for %.0f minutes: %s", phase.Name, (now-*phase.Started)/60, phase.LastError)
	n.console(now, "what to do: %s", phase.WhatToDo)
	for _, line := range phase.Log {
		n.console(now, "log: %s", line)
	}
	if n.Examine == nil {
		return
	}
	if found, whatToDo := n.Examine(ctx); found != "" && ctx.Err() == nil {
		n.console(now, "doctor: %s", found)
		if whatToDo != phase.WhatToDo {
			n.console(now, "what to do: %s", whatToDo)
		}
	}
}

// console writes one line where someone without a way in can read it.
func (n *node) console(at float64, format string, args ...any) {
	n.consoles.Lock()
	defer n.consoles.Unlock()
	fmt.Fprintf(n.Console, "ovenbird-agent: [%6.1f] %s\n", at, fmt.Sprintf(format, args...))
}
