package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// signal records what a resource of a stack is told, while an operation on the resource is
// under way.
func (s *Stacks) signal(st *stack, logical string, given Signal) error {
	defer s.announce()
	return s.edit(st.ID, func(st *stack) error {
		h := st.Resources[logical]
		switch {
		case st.Operation == nil || !busy(st.Status):
			return query.Invalid("Stack %s is in %s state and cannot be signaled", st.ID, st.Status)
		case h == nil:
			return query.Invalid("Resource %s does not exist for stack %s", logical, st.Name)
		case !strings.HasSuffix(h.Status, "_IN_PROGRESS") || h.Status == deleteInProgress:
			return query.Invalid("Resource %s is in %s state and cannot be signaled", logical, h.Status)
		}
		list, err := add(st.Operation.Signals[logical], logical, given)
		if err != nil {
			return err
		}
		if st.Operation.Signals == nil {
			st.Operation.Signals = map[string][]Signal{}
		}
		st.Operation.Signals[logical] = list
		st.tell(s.Now(), logical, h.Now, h.Status, fmt.Sprintf("Received %s signal with UniqueId %s", given.Status, given.ID))
		return nil
	})
}

// add puts a signal on a list.
func add(list []Signal, logical string, given Signal) ([]Signal, error) {
	index := slices.IndexFunc(list, func(s Signal) bool { return s.ID == given.ID })
	switch {
	case index < 0:
		return append(list, given), nil
	case given.Status == Failure:
		list = slices.Clone(list)
		list[index] = given
		return list, nil
	}
	return nil, query.Invalid("Signal with ID %s for resource %s already exists. Signals may only be updated with a FAILURE status.", given.ID, logical)
}

// announce wakes those who wait for signals.
func (s *Stacks) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.signals)
	s.signals = make(chan struct{})
}

// awaited is the signals of one resource. It implements resource.Signals.
type awaited struct {
	*run
	logical string
}

// Reset implements resource.Signals.
func (a awaited) Reset() {
	_ = a.record(func(st *stack) {
		if st.Operation != nil {
			delete(st.Operation.Signals, a.logical)
		}
	})
}

// Wait implements resource.Signals.
func (a awaited) Wait(ctx context.Context, count, success int, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	needed := (count*success + 99) / 100
	for over := false; ; {
		a.mu.Lock()
		more := a.signals
		a.mu.Unlock()
		st, err := a.get(a.id)
		if err != nil {
			return err
		}
		good, bad := 0, 0
		if st.Operation != nil {
			for _, given := range st.Operation.Signals[a.logical] {
				if given.Status == Success {
					good++
				} else {
					bad++
				}
			}
		}
		switch {
		case bad > count-needed:
			return fmt.Errorf("Received %d FAILURE signal(s) out of %d. Unable to satisfy %d%% MinSuccessfulInstancesPercent requirement", bad, count, success) //nolint:staticcheck // CloudFormation's words
		case good+bad >= count, over && good >= needed:
			return nil
		case over && success < 100:
			return fmt.Errorf("Received %d SUCCESS signal(s) out of %d. Unable to satisfy %d%% MinSuccessfulInstancesPercent requirement", good, count, success) //nolint:staticcheck // the same
		case over:
			return fmt.Errorf("Failed to receive %d resource signal(s) within the specified duration", count-good) //nolint:staticcheck // the same
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			over = true
		case <-more:
		}
	}
}

// awaitCreation waits for the signals that a CreationPolicy asks for. A type whose handler
// has waited for them itself has them already.
func awaitCreation(ctx context.Context, signals awaited, policy map[string]any) error {
	wanted, ok := policy["ResourceSignal"].(map[string]any)
	if !ok {
		return nil
	}
	count, err := integer(wanted["Count"], 1)
	if err != nil {
		return fmt.Errorf("the Count of a CreationPolicy: %w", err)
	}
	text, _ := template.Text(wanted["Timeout"])
	timeout := 5 * time.Minute
	if text != "" {
		if timeout, err = resource.Duration(text); err != nil {
			return fmt.Errorf("the Timeout of a CreationPolicy: %w", err)
		}
	}
	scaling, _ := policy["AutoScalingCreationPolicy"].(map[string]any)
	success, err := integer(scaling["MinSuccessfulInstancesPercent"], 100)
	if err != nil || success < 0 || success > 100 {
		return errors.Join(errors.New("the MinSuccessfulInstancesPercent of a CreationPolicy: want 0 to 100"), err)
	}
	return signals.Wait(ctx, count, success, timeout)
}
