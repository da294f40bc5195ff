// Package cloudformation answers SignalResource as AWS CloudFormation does, for resources
// that somebody waits for: there are no stacks behind them.
package cloudformation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	version   = "2010-05-15"
	namespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
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

// Signals are the resources that wait for signals, and what they were told. The zero value
// has none. It is safe for concurrent use, and lives as long as its process.
type Signals struct {
	mu        sync.Mutex
	resources map[resource][]Signal
}

type resource struct{ stack, name string }

// Expect makes a resource known, of which nobody may be waiting yet.
func (s *Signals) Expect(stack, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.resources[resource{stack, name}]; ok {
		return fmt.Errorf("somebody waits for signals to %s of stack %s already", name, stack)
	}
	if s.resources == nil {
		s.resources = map[resource][]Signal{}
	}
	s.resources[resource{stack, name}] = []Signal{}
	return nil
}

// Received is what a resource was told so far.
func (s *Signals) Received(stack, name string) ([]Signal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, ok := s.resources[resource{stack, name}]
	if !ok {
		return nil, fmt.Errorf("nobody waits for signals to %s of stack %s: the lab's daemon was started anew", name, stack)
	}
	return slices.Clone(list), nil
}

// Forget undoes Expect.
func (s *Signals) Forget(stack, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.resources, resource{stack, name})
}

// receive records a signal.
func (s *Signals) receive(stack, name string, signal Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, ok := s.resources[resource{stack, name}]
	if !ok {
		for other := range s.resources {
			if other.stack == stack {
				return query.Invalid("Resource %s does not exist for stack %s", name, stack)
			}
		}
		return query.Invalid("Stack '%s' does not exist", stack)
	}
	index := slices.IndexFunc(list, func(s Signal) bool { return s.ID == signal.ID })
	switch {
	case index < 0:
		s.resources[resource{stack, name}] = append(list, signal)
	case signal.Status == Failure:
		list[index] = signal
	default:
		return query.Invalid("Signal with ID %s for resource %s already exists. Signals may only be updated with a FAILURE status.", signal.ID, name)
	}
	return nil
}

// Service is CloudFormation. It implements wire.Service.
type Service struct{ Signals *Signals }

// Name implements wire.Service.
func (Service) Name() string { return "cloudformation" }

// Knows implements wire.Service.
func (Service) Knows(action string) bool { return action == "SignalResource" }

// Do implements wire.Service. An instance's role may signal.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	if !s.Knows(call.Action) {
		return nil, query.Unknown(version, call)
	}
	p := query.Read(call)
	stack, name := p.Required("StackName"), p.Required("LogicalResourceId")
	signal := Signal{ID: p.Required("UniqueId"), Status: p.OneOf("Status", "", Success, Failure)}
	p.Required("Status")
	if err := p.Done(); err != nil {
		return nil, err
	}
	return query.Answer{Action: call.Action}, s.Signals.receive(stack, name, signal)
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	query.Write(w, namespace, id, value, err)
}
