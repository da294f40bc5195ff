// Package fault makes AWS calls go wrong on demand, so that tests and people see what their
// clients do about it: a set of faults is asked before each call, and counts the calls.
package fault

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Effect is what happens to a call.
type Effect string

// Effects.
const (
	Throttle Effect = "throttle" // refused: too many requests
	Fail     Effect = "fail"     // refused with the service's own status 500
	Deny     Effect = "deny"     // refused: not authorised
	Exhaust  Effect = "exhaust"  // refused: a quota is used up
	Lose     Effect = "lose"     // carried out, then the connection is reset instead of an answer
	Delay    Effect = "delay"    // carried out after a while
)

// Fault befalls calls.
type Fault struct {
	Action string `json:"action,omitempty"` // PutSnapshotBlock, ...; empty: every one
	Effect Effect `json:"effect"`
	// After lets so many calls pass first.
	After int `json:"after,omitempty"`
	// Count is how many calls it befalls at most; zero: until it is cleared.
	Count int `json:"count,omitempty"`
	// Share is the share of the calls that it befalls, above 0 and at most 1; zero: all.
	Share float64 `json:"share,omitempty"`
	// PerSecond is how many calls a second go unharmed; zero: none.
	PerSecond float64 `json:"perSecond,omitempty"`
	// Wait is how long Delay takes.
	Wait time.Duration `json:"wait,omitempty"`
}

// Check tells what is wrong with the fault.
func (f Fault) Check() error {
	switch {
	case !slices.Contains([]Effect{Throttle, Fail, Deny, Exhaust, Lose, Delay}, f.Effect):
		return fmt.Errorf("no effect %q: want throttle, fail, deny, exhaust, lose or delay", f.Effect)
	case f.After < 0 || f.Count < 0 || f.PerSecond < 0 || f.Wait < 0:
		return fmt.Errorf("%s: a number is negative", f)
	case f.Share < 0 || f.Share > 1:
		return fmt.Errorf("%s: the share of the calls is %g, want at most 1", f, f.Share)
	case (f.Effect == Delay) != (f.Wait > 0):
		return fmt.Errorf("%s: a delay, and nothing else, takes a time to wait", f)
	}
	return nil
}

// String says the fault in words.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", f.Effect)
	if f.Count > 0 {
		fmt.Fprintf(&b, "%d of ", f.Count)
	}
	if f.Action == "" {
		b.WriteString("all calls")
	} else {
		b.WriteString(f.Action)
	}
	if f.After > 0 {
		fmt.Fprintf(&b, ", after %d", f.After)
	}
	if f.Share > 0 {
		fmt.Fprintf(&b, ", %g%% of them", f.Share*100)
	}
	if f.PerSecond > 0 {
		fmt.Fprintf(&b, ", above %g a second", f.PerSecond)
	}
	if f.Wait > 0 {
		fmt.Fprintf(&b, ", by %s", f.Wait)
	}
	return b.String()
}

// Set is the faults that are at work. The zero value has none, as has nil. It is safe for
// concurrent use.
type Set struct {
	Now func() time.Time // nil: time.Now

	mu     sync.Mutex
	faults []*active
	calls  map[string]int
}

// active is a fault and what it has seen.
type active struct {
	Fault
	seen, struck int
	tokens       float64 // calls that may pass now, at most a second's worth
	filled       time.Time
}

// Add puts a fault to work beside those that are.
func (s *Set) Add(f Fault) error {
	if err := f.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &active{Fault: f, tokens: f.PerSecond, filled: s.now()})
	return nil
}

// Clear ends all faults. The counts of calls stay.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// List is the faults that may still strike, with the counts that are left.
func (s *Set) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Fault{}
	for _, a := range s.faults {
		left := a.Fault
		if left.Count > 0 {
			left.Count -= a.struck
		}
		list = append(list, left)
	}
	return list
}

// Calls is how often each action was called.
func (s *Set) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := map[string]int{}
	for action, n := range s.calls {
		calls[action] = n
	}
	return calls
}

// Strike counts a call and answers the faults that befall it.
func (s *Set) Strike(action string) []Fault {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[action]++
	var struck []Fault
	s.faults = slices.DeleteFunc(s.faults, func(a *active) bool {
		if (a.Action == "" || a.Action == action) && a.strikes(s.now()) {
			a.struck++
			struck = append(struck, a.Fault)
		}
		return a.Count > 0 && a.struck == a.Count
	})
	return struck
}

// strikes counts a call and tells whether the fault befalls it.
func (a *active) strikes(now time.Time) bool {
	a.seen++
	n := a.seen - a.After
	if n <= 0 {
		return false
	}
	// Evenly spread and the same each time: no dice.
	if a.Share > 0 && int(float64(n)*a.Share) == int(float64(n-1)*a.Share) {
		return false
	}
	if a.PerSecond > 0 {
		a.tokens = min(max(1, a.PerSecond), a.tokens+now.Sub(a.filled).Seconds()*a.PerSecond)
		a.filled = now
		if a.tokens >= 1 {
			a.tokens--
			return false
		}
	}
	return true
}

func (s *Set) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
