package cloudformation

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// Values of Signal.Status.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
)

// Signal is what a resource was told.
type Signal struct {
	ID     string `json:"uniqueId"` // an instance's ID, for one that signals itself
	Status string `json:"status"`   // Success or Failure
}

// Signals are the resources of no stack that somebody waits for, and what they were told. The
// zero value has none. It is safe for concurrent use, and lives as long as its process.
type Signals struct {
	mu        sync.Mutex
	resources map[expected][]Signal
}

type expected struct{ stack, name string }

// Expect makes a resource known, of which nobody may be waiting yet.
func (s *Signals) Expect(stack, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.resources[expected{stack, name}]; ok {
		return fmt.Errorf("somebody waits for signals to %s of stack %s already", name, stack)
	}
	if s.resources == nil {
		s.resources = map[expected][]Signal{}
	}
	s.resources[expected{stack, name}] = []Signal{}
	return nil
}

// Received is what a resource was told so far.
func (s *Signals) Received(stack, name string) ([]Signal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, ok := s.resources[expected{stack, name}]
	if !ok {
		return nil, fmt.Errorf("nobody waits for signals to %s of stack %s: the lab's daemon was started anew", name, stack)
	}
	return slices.Clone(list), nil
}

// Forget undoes Expect.
func (s *Signals) Forget(stack, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resources, expected{stack, name})
}

// receive records a signal.
func (s *Signals) receive(stack, name string, signal Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, ok := s.resources[expected{stack, name}]
	if !ok {
		for other := range s.resources {
			if other.stack == stack {
				return query.Invalid("Resource %s does not exist for stack %s", name, stack)
			}
		}
		return query.Invalid("Stack '%s' does not exist", stack)
	}
	list, err := add(list, name, signal)
	if err == nil {
		s.resources[expected{stack, name}] = list
	}
	return err
}
