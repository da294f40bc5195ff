package boot

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// Phase is one thing that must be done for the node to join.
type Phase struct {
	Name    string
	Needs   []string      // phases before it in the list, which must be done first
	Attempt time.Duration // how long one attempt may take
	Longest time.Duration // the longest delay between attempts; 0 means longestDelay

	// Run makes one attempt. It must be safe to run again after any failure, a killed
	// process included. By tell it says what it is waiting for.
	Run func(ctx context.Context, tell func(detail string)) error
}

const (
	firstDelay = 250 * time.Millisecond
	// longestDelay keeps a node from noticing late that what it waits for is back, and a
	// thousand waiting nodes to less than a hundred requests a second.
	longestDelay = 15 * time.Second
	// firstLasting is after how long failing is no longer a matter of waiting. It is told of
	// again when it has lasted twice, four times, eight times as long.
	firstLasting = 3 * time.Minute
)

// delay returns how long to wait after that many failures in a row: doubling from
// firstDelay to longest, of which random, in [0, 1), takes away up to half, so that nodes
// that failed together do not return together.
func delay(failures int, longest time.Duration, random float64) time.Duration {
	d := cmp.Or(longest, longestDelay)
	if doublings := failures - 1; doublings < 20 { // long past any cap
		d = min(d, firstDelay<<doublings)
	}
	return d - time.Duration(random*float64(d)/2)
}

// runner runs phases, each as soon as those that it needs are done, and each again after
// every failure for as long as it takes.
type runner struct {
	clock  Clock
	random func() float64
	report func(Status, PhaseStatus) // called one at a time, after each change of a phase
	// lasting is called beside the delay before the next attempt when a phase has failed
	// for long, ever more rarely. Nil: nobody is told.
	lasting func(ctx context.Context, phase PhaseStatus)

	mu     sync.Mutex
	status Status
}

// run returns when all phases are done, or when ctx ends. It may be called again, with
// phases that come after those.
func (r *runner) run(ctx context.Context, phases []Phase) error {
	done := map[string]chan struct{}{}
	before := len(r.status.Phases)
	for _, phase := range phases {
		for _, need := range phase.Needs {
			if done[need] == nil {
				return fmt.Errorf("phase %s needs %s, which does not come before it", phase.Name, need)
			}
		}
		done[phase.Name] = make(chan struct{})
		r.status.Phases = append(r.status.Phases, PhaseStatus{Name: phase.Name, State: Waiting})
	}
	var all sync.WaitGroup
	for i, phase := range phases {
		all.Go(func() {
			for _, need := range phase.Needs {
				select {
				case <-done[need]:
				case <-ctx.Done():
					return
				}
			}
			if r.untilDone(ctx, before+i, phase) == nil {
				close(done[phase.Name])
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

// untilDone makes attempts at phase until one succeeds or ctx ends.
func (r *runner) untilDone(ctx context.Context, index int, phase Phase) error {
	started := r.clock.SinceBoot()
	lasting := firstLasting
	calls := &traffic.Service{}
	for attempt := 1; ; attempt++ {
		r.update(index, func(p *PhaseStatus) {
			p.State, p.Attempts, p.Started, p.NextTry, p.Detail = Running, attempt, seconds(started), nil, ""
		})
		err := r.attempt(traffic.OnBehalf(ctx, calls), index, phase)
		now := r.clock.SinceBoot()
		if err == nil {
			r.update(index, func(p *PhaseStatus) {
				p.State, p.Finished, p.Detail = Done, seconds(now), ""
				p.Traffic, p.WhatToDo, p.Log = calls.Count(), "", nil
			})
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := delay(attempt, phase.Longest, r.random())
		var failed PhaseStatus
		r.update(index, func(p *PhaseStatus) {
			p.State, p.LastError, p.NextTry = Retrying, explained(err, r.clock.Now()), seconds(now+wait)
			p.Failed = append(slices.Clone(p.Failed[:min(len(p.Failed), mostFailed-1)]), *seconds(now))
			p.Traffic, p.WhatToDo, p.Log = calls.Count(), advise(phase.Name, err), logOf(err)
			failed = *p
		})
		var told sync.WaitGroup
		if r.lasting != nil && now-started >= lasting {
			lasting *= 2
			told.Go(func() { r.lasting(ctx, failed) })
		}
		err = r.clock.Sleep(ctx, wait)
		told.Wait()
		if err != nil {
			return err
		}
	}
}

// overdue is why an attempt ends that takes longer than it may.
type overdue time.Duration

func (o overdue) Error() string { return fmt.Sprintf("still nothing after %s", time.Duration(o)) }

func (r *runner) attempt(ctx context.Context, index int, phase Phase) error {
	ctx, cancel := context.WithTimeoutCause(ctx, phase.Attempt, overdue(phase.Attempt))
	defer cancel()
	return phase.Run(ctx, func(detail string) {
		r.update(index, func(p *PhaseStatus) { p.Detail = oneLine(detail) })
	})
}

func (r *runner) update(index int, change func(*PhaseStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	phase := &r.status.Phases[index]
	before := *phase
	if change(phase); reflect.DeepEqual(*phase, before) {
		return
	}
	snapshot := r.status
	snapshot.Phases = slices.Clone(r.status.Phases)
	r.report(snapshot, *phase)
}

// describe adds what is known about the node to the status.
func (r *runner) describe(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// now returns the status as it is.
func (r *runner) now() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.status
	status.Phases = slices.Clone(r.status.Phases)
	return status
}
