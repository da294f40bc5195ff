package boot

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// patience is for how long a phase may fail without a word on the console, in seconds:
// the network, for one, comes up beside the agent.
const patience = 1.5

// worthTelling is how long a phase takes that has a line on the console, in seconds: serial
// ports are slow, and what is done in 0.0s had nothing to do.
const worthTelling = 0.05

// pace is the time between two writes of the files, which dozens of changes can fall into.
const pace = 100 * time.Millisecond

// changed tells everyone who may be looking that a phase changed: the service manager and the
// journal at once, the files and the console beside joining, which none of them may hold up.
func (n *node) changed(status Status, phase PhaseStatus) {
	n.reporter.changed()
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
			n.reporter.tell(*phase.Finished, "%s done in %.1fs", phase.Name, took)
		}
	case phase.State == Retrying:
		now := n.Clock.SinceBoot().Seconds()
		n.Log.Warn("phase failed, will be tried again", zap.String("phase", phase.Name), zap.Int("attempt", phase.Attempts),
			zap.String("error", phase.LastError), zap.Float64("in", *phase.NextTry-now))
		// On the console, ever fewer; and none while what fails may only be about to come.
		if phase.Attempts&(phase.Attempts-1) == 0 && now-*phase.Started > patience {
			n.reporter.tell(now, "%s failed (try %d): %s; next try in %.1fs", phase.Name, phase.Attempts, phase.LastError, *phase.NextTry-now)
		}
	case phase.Detail != "":
		n.Log.Info("phase waits", zap.String("phase", phase.Name), zap.String("for", phase.Detail))
	}
}

// failsForLong tells the console what there is to do: nobody can log in to a node that has
// never joined.
func (n *node) failsForLong(ctx context.Context, phase PhaseStatus) {
	now := phase.Failed[len(phase.Failed)-1]
	n.reporter.tell(now, "%s has failed for %.0f minutes: %s", phase.Name, (now-*phase.Started)/60, phase.LastError)
	n.reporter.tell(now, "what to do: %s", phase.WhatToDo)
	for _, line := range phase.Log {
		n.reporter.tell(now, "log: %s", line)
	}
	if n.Examine == nil {
		return
	}
	if found, whatToDo := n.Examine(ctx); found != "" && ctx.Err() == nil {
		n.reporter.tell(now, "doctor: %s", found)
		if whatToDo != phase.WhatToDo {
			n.reporter.tell(now, "what to do: %s", whatToDo)
		}
	}
}

// reporter keeps the files of the status and the metrics, and the console, as they should be.
type reporter struct {
	root    rootfs.Root
	log     *zap.Logger
	console io.Writer
	status  func() Status // as it is now

	news    chan struct{} // holds one when the files are behind
	writing sync.Mutex    // from the status to its files, so that the newest is the last
	lines   chan string   // for the console
}

// mostLines is how many lines wait for the console at most: more than a node has to tell in an
// hour, and little enough for one whose console takes none.
const mostLines = 256

func newReporter(options Options, status func() Status) *reporter {
	return &reporter{
		root: options.Root, log: options.Log, console: options.Console, status: status,
		news: make(chan struct{}, 1), lines: make(chan string, mostLines),
	}
}

// changed has the files written anew.
func (r *reporter) changed() {
	select {
	case r.news <- struct{}{}:
	default: // they are about to be
	}
}

// tell tells the console one line, where someone without a way in can read it.
func (r *reporter) tell(at float64, format string, args ...any) {
	select {
	case r.lines <- fmt.Sprintf("ovenbird-agent: [%6.1f] %s\n", at, fmt.Sprintf(format, args...)):
	default: // it takes none
	}
}

// start reports until stop is called, which returns when all is reported.
func (r *reporter) start() (stop func()) {
	quit := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { r.keepTelling(quit) })
	reporting.Go(func() { r.keepWriting(quit) })
	return func() {
		close(quit)
		reporting.Wait()
	}
}

// keepTelling gives the console its lines until quit is closed and it has them all, or takes
// no more.
func (r *reporter) keepTelling(quit <-chan struct{}) {
	for {
		select {
		case line := <-r.lines:
			_, _ = io.WriteString(r.console, line)
		case <-quit:
			for range len(r.lines) {
				if _, err := io.WriteString(r.console, <-r.lines); err != nil {
					return
				}
			}
			return
		}
	}
}

// keepWriting writes the files until quit is closed and they are up to date.
func (r *reporter) keepWriting(quit <-chan struct{}) {
	for {
		select {
		case <-r.news:
			r.write()
			select {
			case <-time.After(pace):
			case <-quit:
			}
		case <-quit:
			if len(r.news) > 0 {
				r.write()
			}
			return
		}
	}
}

// write writes the status and the metrics as they are now.
func (r *reporter) write() {
	r.writing.Lock()
	defer r.writing.Unlock()
	status := r.status()
	err := status.write(r.root)
	if err == nil {
		err = status.writeMetrics(r.root)
	}
	if err != nil {
		r.log.Warn("cannot write the status", zap.Error(err))
	}
}
