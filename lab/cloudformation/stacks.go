// Package cloudformation is AWS CloudFormation as far as the lab's resource types reach:
// stacks and change sets over the templates that package template reads, carried out on the
// types that the lab's services offer, with rollback and signals. A type, a property or a
// request that it does not know is refused by name.
//
// Everything is recorded before it is done. A daemon that is killed in the midst of an
// operation leaves a record from which the next one carries it on.
package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Stacks are the stacks that exist, recorded at Path. They are safe for concurrent use.
type Stacks struct {
	Path  string
	Plan  vpc.Plan
	Types []resource.Type
	// Parameter finds a parameter of SSM in the plan's region; nil: there are none.
	Parameter func(name string) (value string, ok bool)
	// Exists tells whether what a parameter of a type such as AWS::EC2::VPC::Id names is
	// there; nil: whatever has the form of an ID.
	Exists func(kind, value string) bool
	// ValueOf is an attribute of what such a parameter names, for Fn::ValueOf; nil: refused.
	ValueOf func(kind, value, attribute string) (string, error)
	Now     func() time.Time
	Logger  *zap.Logger

	mu      sync.Mutex
	list    []*stack // in the order of their creation
	changed chan struct{}
	stops   map[string]context.CancelCauseFunc // by the ID of the stack, of operations that run
	signals chan struct{}                      // closed and made anew with each signal
}

// retained is how long deleted stacks are told of, as on AWS.
const retained = 90 * 24 * time.Hour

// Open reads the record.
func (s *Stacks) Open() error {
	s.changed, s.signals, s.stops = make(chan struct{}, 1), make(chan struct{}), map[string]context.CancelCauseFunc{}
	data, err := os.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the stacks: %w", err)
	}
	if err := json.Unmarshal(data, &s.list); err != nil {
		return fmt.Errorf("read the stacks from %s: %w", s.Path, err)
	}
	return nil
}

// Run carries operations out until the context ends.
func (s *Stacks) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		s.mu.Lock()
		for _, st := range s.list {
			if o := st.Operation; o == nil || o.Phase == stalled || s.stops[st.ID] != nil {
				continue
			}
			within, stop := context.WithCancelCause(ctx)
			s.stops[st.ID] = stop
			if st.Operation.calledOff() { // before it ran, or before the last daemon was killed
				stop(errStopped)
			}
			running.Go(func() {
				s.operate(ctx, within, st.ID)
				s.mu.Lock()
				delete(s.stops, st.ID)
				s.mu.Unlock()
				stop(nil)
				s.wake()
			})
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
	}
}

// wake makes Run look for operations.
func (s *Stacks) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// find finds a stack by its ID, or one that is not deleted by its name.
func (s *Stacks) find(nameOrID string) (*stack, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.list {
		if st.ID == nameOrID || st.Name == nameOrID && st.Status != deleteComplete {
			return st, true
		}
	}
	return nil, false
}

// get finds a stack that there is.
func (s *Stacks) get(nameOrID string) (*stack, error) {
	st, ok := s.find(nameOrID)
	if !ok {
		return nil, query.Invalid("Stack with id %s does not exist", nameOrID)
	}
	return st, nil
}

// all are the stacks, the newest first.
func (s *Stacks) all() []*stack {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.list)
	slices.Reverse(list)
	return list
}

// add makes a new stack, whose name nobody may have.
func (s *Stacks) add(st *stack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.list {
		if other.Name == st.Name && other.Status != deleteComplete {
			return query.Refuse("AlreadyExistsException", "Stack [%s] already exists", st.Name)
		}
	}
	list := slices.DeleteFunc(slices.Clone(s.list), func(old *stack) bool {
		return !old.Deleted.IsZero() && s.Now().Sub(old.Deleted) > retained
	})
	return s.save(append(list, st))
}

// edit changes a stack: alter gets a copy, which takes effect once it is recorded.
func (s *Stacks) edit(id string, alter func(*stack) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(st *stack) bool { return st.ID == id })
	if i < 0 {
		return query.Invalid("Stack with id %s does not exist", id)
	}
	st, err := s.list[i].clone()
	if err != nil {
		return err
	}
	if err := alter(st); err != nil {
		return err
	}
	list := slices.Clone(s.list)
	list[i] = st
	return s.save(list)
}

func (s *Stacks) save(list []*stack) error {
	// Parameters and user-data may hold secrets.
	if err := state.WriteJSON(s.Path, list, 0o600); err != nil {
		return err
	}
	s.list = list
	return nil
}

// record changes a stack for the engine, which cannot go on until that is on disk. It gives
// up with the context.
func (s *Stacks) record(ctx context.Context, id string, alter func(*stack)) error {
	backoff := retry.Backoff{First: 200 * time.Millisecond, Limit: 10 * time.Second}
	for {
		err := s.edit(id, func(st *stack) error { alter(st); return nil })
		if err == nil {
			return nil
		}
		s.Logger.Warn("a stack's record is held up; trying again", zap.String("stack", id), zap.Error(err))
		timer := time.NewTimer(backoff.Next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// typeOf finds a resource type.
func (s *Stacks) typeOf(name string) (resource.Type, bool) {
	i := slices.IndexFunc(s.Types, func(t resource.Type) bool { return t.Name == name })
	if i < 0 {
		return resource.Type{}, false
	}
	return s.Types[i], true
}

// supports tells whether a type has an attribute.
func (s *Stacks) supports(kind, attribute string) bool {
	t, ok := s.typeOf(kind)
	return ok && slices.Contains(t.Attributes, attribute)
}

// stackID makes the ARN of a new stack.
func (s *Stacks) stackID(name string) string { return s.arn("stack", name) }

func (s *Stacks) arn(kind, name string) string {
	return strings.Join([]string{"arn", s.Plan.Partition, "cloudformation", s.Plan.Region, s.Plan.Account, kind + "/" + name + "/" + uuid.NewString()}, ":")
}
