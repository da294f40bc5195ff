// Package supervise runs component descriptions as processes of this machine.
//
// The life of a component:
//
//	waiting ──dependencies ready──▶ starting ──probe passes──▶ ready ◀──probe──▶ unready
//	   ▲                               │                         │                  │
//	   └──────────── backoff ◀─────────┴── exits, or is stuck ───┴──────────────────┘
//
// It promises that
//   - a process outlives the service, even one that is killed: it has its own session, and
//     its output goes straight to a file. Under systemd the unit needs KillMode=process;
//   - the next service finds the process again and adopts it, or stops it when its
//     description has changed. At most one process a component runs at any time;
//   - a component that ends is started again, after a delay that doubles up to a cap and is
//     drawn at random below that, and is short again once the component has been well for a while;
//   - the output of a component, adopted or not, takes up a bounded space while a service runs.
//
// It never stops a process because the service stops: see Detach and Stop.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

// Phase is where in its life a component is.
type Phase string

// Phases, as in the drawing above.
const (
	Waiting  Phase = "waiting"
	Starting Phase = "starting"
	Ready    Phase = "ready"
	Unready  Phase = "unready"
	Backoff  Phase = "backoff"
)

// State is what is known of a component.
type State struct {
	Name     string
	Phase    Phase
	PID      int // 0: no process
	Restarts int // since the service started
	Message  string
}

// Timing is how fast and how patient a Supervisor is.
type Timing struct {
	Poll    time.Duration // between probes of a component that starts
	Recheck time.Duration // between probes of a component that was ready and is not now
	Watch   time.Duration // between probes of a ready component
	Probe   time.Duration // how long one probe may take
	Stuck   time.Duration // how long the Live probe may fail before the process is replaced
	Grace   time.Duration // between SIGTERM and SIGKILL
	Restart Delays
}

// Production is the timing for real components: quick to notice a start, slow to judge.
func Production() Timing {
	return Timing{
		Poll: 50 * time.Millisecond, Recheck: time.Second, Watch: 10 * time.Second,
		Probe: 15 * time.Second, Stuck: 2 * time.Minute, Grace: 15 * time.Second,
		Restart: Delays{First: 250 * time.Millisecond, Most: 30 * time.Second, Well: time.Minute},
	}
}

// Supervisor runs the components whose records and logs are in one directory.
type Supervisor struct {
	dir    string
	timing Timing
	log    *zap.Logger

	mu       sync.Mutex
	units    map[string]*unit
	detached bool
	changed  chan struct{} // closed, and replaced, whenever a state changes
}

// New returns a Supervisor that keeps NAME.pid and NAME.log in dir, an absolute path.
// It does nothing before Apply.
func New(dir string, timing Timing, log *zap.Logger) *Supervisor {
	return &Supervisor{dir: dir, timing: timing, log: log, units: map[string]*unit{}, changed: make(chan struct{})}
}

// Apply makes want the components that run. It returns at once; Await tells when they are
// ready. A process that runs as wanted is left alone, whoever started it.
func (s *Supervisor) Apply(want []component.Component) error {
	if err := checkDependencies(want); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return errors.New("the supervisor has let go of its components")
	}

	wanted := map[string]bool{}
	var fresh []*unit
	for _, c := range want {
		wanted[c.Name] = true
		current := s.units[c.Name]
		if current != nil && current.digest == c.Digest() && current.ctx.Err() == nil {
			continue
		}
		fresh = append(fresh, newUnit(s, c, current))
	}
	for name, u := range s.units {
		if !wanted[name] {
			u.cancel(errStop)
			go s.forget(name, u)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	// A service that was killed between starting a process and recording it left one that
	// only its environment tells of.
	orphans, err := marked(s.dir)
	if err != nil {
		return err
	}
	for _, u := range fresh {
		if u.previous != nil {
			u.previous.cancel(errStop)
		}
		s.units[u.component.Name] = u
		go u.run(orphans[filepath.Join(s.dir, u.component.Name)])
	}
	return nil
}

// forget drops a unit that is no longer wanted once its process is gone.
func (s *Supervisor) forget(name string, u *unit) {
	<-u.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[name] == u {
		delete(s.units, name)
	}
}

// States returns what is known of each wanted component, sorted by name.
func (s *Supervisor) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []State
	for _, u := range s.units {
		if u.ctx.Err() == nil {
			states = append(states, u.state)
		}
	}
	slices.SortFunc(states, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return states
}

// Changed returns a channel that is closed at the next change of any state.
func (s *Supervisor) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Await blocks until the named components, or all when none is named, are ready. When ctx
// ends first, the error says what each of the others is doing.
func (s *Supervisor) Await(ctx context.Context, names ...string) error {
	for {
		changed := s.Changed()
		missing := notReady(s.States(), names)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", strings.Join(missing, "; "), context.Cause(ctx))
		}
	}
}

func notReady(states []State, names []string) []string {
	var missing []string
	ready := map[string]bool{}
	for _, state := range states {
		ready[state.Name] = state.Phase == Ready
		if !ready[state.Name] && (len(names) == 0 || slices.Contains(names, state.Name)) {
			missing = append(missing, describe(state))
		}
	}
	for _, name := range names {
		if _, known := ready[name]; !known {
			missing = append(missing, name+" is not described")
		}
	}
	return missing
}

func describe(state State) string {
	text := fmt.Sprintf("%s is %s", state.Name, state.Phase)
	if state.Message != "" {
		text += ": " + state.Message
	}
	return text
}

// Detach lets go of all components and leaves their processes running.
func (s *Supervisor) Detach() {
	s.mu.Lock()
	s.detached = true
	units := s.units
	s.units = map[string]*unit{}
	s.mu.Unlock()
	for _, u := range units {
		u.cancel(errDetach)
	}
	for _, u := range units {
		<-u.done
	}
}

// Stop ends all components and whatever else was started for this directory.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.Detach()
	_, err := StopAll(ctx, s.dir, s.timing.Grace)
	return err
}

// set changes u's state and wakes whoever waits for a change.
func (s *Supervisor) set(u *unit, change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := u.state
	if change(&u.state); u.state != before {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func checkDependencies(components []component.Component) error {
	known := map[string]bool{}
	for _, c := range components {
		for _, name := range c.DependsOn {
			// Asking for the order of the list excludes circles, too.
			if !known[name] {
				return fmt.Errorf("component %s depends on %s, which does not stand before it", c.Name, name)
			}
		}
		if known[c.Name] {
			return fmt.Errorf("component %s is described twice", c.Name)
		}
		known[c.Name] = true
	}
	return nil
}
