package supervise

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

// Why a unit ends.
var (
	errStop   = errors.New("stopped")
	errDetach = errors.New("detached")
)

// unit keeps one component running until its context ends.
type unit struct {
	component component.Component
	digest    string
	previous  *unit // of the same name; must be done before this one begins

	supervisor *Supervisor
	log        *zap.Logger
	ctx        context.Context
	cancel     context.CancelCauseFunc
	done       chan struct{}
	state      State // guarded by the supervisor
}

func newUnit(s *Supervisor, c component.Component, previous *unit) *unit {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &unit{
		component: c, digest: c.Digest(), previous: previous,
		supervisor: s, log: s.log.With(zap.String("component", c.Name)),
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
		state: State{Name: c.Name, Phase: Waiting},
	}
}

// run is the unit's life. orphans are processes of this component that no record tells of.
func (u *unit) run(orphans []int) {
	defer close(u.done)
	if u.previous != nil {
		<-u.previous.done
		u.previous = nil
	}
	var p *process
	delays, inherited := restarts{Delays: u.supervisor.timing.Restart}, false
	for u.ctx.Err() == nil {
		var err error
		var readySince time.Time
		// Nothing is started before it is certain that nothing is left.
		if !inherited {
			p, err = u.inherit(orphans)
			inherited = err == nil
		}
		if err == nil && p == nil {
			p, err = u.start()
		}
		if err == nil {
			readySince, err = u.watch(p)
		}
		if u.ctx.Err() != nil {
			break
		}
		p = nil
		u.pause(delays.next(readySince, time.Now()), err)
	}
	if p != nil && errors.Is(context.Cause(u.ctx), errStop) {
		if err := p.terminate(u.supervisor.timing.Grace); err != nil {
			u.log.Error("stop component", zap.Error(err))
		}
	}
}

// inherit deals with what an earlier service left: it adopts the recorded process when that
// runs as wanted, and stops everything else.
func (u *unit) inherit(orphans []int) (*process, error) {
	grace := u.supervisor.timing.Grace
	p, asWanted, err := recall(u.recordPath(), u.digest)
	if err != nil {
		return nil, err
	}
	for _, pid := range orphans {
		if p != nil && pid == p.pid {
			continue
		}
		u.log.Warn("stop what is left of the component", zap.Int("pid", pid))
		if err := stopMarked(pid, filepath.Join(u.supervisor.dir, u.component.Name), grace); err != nil {
			return nil, err
		}
	}
	if p == nil {
		return nil, nil
	}
	if !asWanted {
		u.log.Info("stop component, its description has changed", zap.Int("pid", p.pid))
		return nil, p.terminate(grace)
	}
	u.log.Info("adopt component", zap.Int("pid", p.pid))
	return p, nil
}

// start waits for the dependencies and starts the process.
func (u *unit) start() (*process, error) {
	u.set(func(s *State) { s.Phase, s.PID = Waiting, 0 })
	if len(u.component.DependsOn) > 0 {
		if err := u.supervisor.Await(u.ctx, u.component.DependsOn...); err != nil {
			return nil, err
		}
	}
	// A component that ends before its first probe must not fill the disk either.
	u.rotateLog()
	p, err := launch(u.component, u.supervisor.dir, u.digest)
	if err != nil {
		return nil, err
	}
	u.log.Info("start component", zap.String("version", u.component.Version), zap.Int("pid", p.pid))
	return p, nil
}

// rotateLog keeps a log bounded where it can. A full disk is no reason for a component to be down.
func (u *unit) rotateLog() {
	if err := rotate(u.logPath(), maxLog, keptLogs); err != nil {
		u.log.Warn("component's log goes on growing", zap.Error(err))
	}
}

// watch probes p until it ends, is stuck, or the unit ends. It returns since when p has
// been ready (zero: not at the end) and why it is over.
func (u *unit) watch(p *process) (readySince time.Time, err error) {
	timing, probe := u.supervisor.timing, u.component.Probe
	started, everReady := time.Now(), false
	lastLive := started
	u.set(func(s *State) { s.Phase, s.PID = Starting, p.pid })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-u.ctx.Done():
			return readySince, nil
		case <-p.exited:
			p.sweep()
			return readySince, fmt.Errorf("%s%s", p.ending(), lastLine(u.logPath()))
		case <-timer.C:
		}
		u.rotateLog()
		err := ask(u.ctx, probe, probe.Ready, timing.Probe)
		now := time.Now()
		switch {
		case err == nil:
			if readySince.IsZero() {
				u.log.Info("component is ready", zap.Int("pid", p.pid), zap.Duration("after", now.Sub(started)))
				readySince = now
				u.set(func(s *State) { s.Phase, s.Message = Ready, "" })
			}
			everReady, lastLive = true, now
			timer.Reset(timing.Watch)
		case !everReady:
			u.set(func(s *State) { s.Message = err.Error() })
			if now.Sub(started) > probe.StartTimeout {
				return readySince, u.replace(p, fmt.Errorf("was not ready within %s: %w", probe.StartTimeout, err))
			}
			timer.Reset(timing.Poll)
		default:
			readySince = time.Time{}
			u.set(func(s *State) { s.Phase, s.Message = Unready, err.Error() })
			if ask(u.ctx, probe, probe.Live, timing.Probe) == nil {
				lastLive = now
			} else if now.Sub(lastLive) > timing.Stuck {
				return readySince, u.replace(p, fmt.Errorf("has been stuck for %s: %w", timing.Stuck, err))
			}
			timer.Reset(timing.Recheck)
		}
	}
}

// replace stops a process that is of no use any more, and returns why.
func (u *unit) replace(p *process, why error) error {
	if u.ctx.Err() != nil {
		return why
	}
	if err := p.terminate(u.supervisor.timing.Grace); err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	return why
}

// pause waits before the next start.
func (u *unit) pause(delay time.Duration, why error) {
	u.log.Warn("component ended", zap.Error(why), zap.Duration("next_start_in", delay), zap.String("output", u.logPath()))
	u.set(func(s *State) {
		s.Phase, s.PID, s.Message = Backoff, 0, why.Error()
		s.Restarts++
	})
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-u.ctx.Done():
	}
}

func (u *unit) set(change func(*State)) { u.supervisor.set(u, change) }
