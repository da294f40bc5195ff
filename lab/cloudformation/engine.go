package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/retry"
)

// Why an operation's context ended while the daemon goes on.
var (
	errStopped = errors.New("User Initiated")                                      //nolint:staticcheck // CloudFormation's words
	errTime    = errors.New("Stack creation time exceeded the specified timeout.") //nolint:staticcheck // the same
)

// run is an operation that is being carried out. Daemon ends with the daemon, ctx also when
// the operation is called off.
type run struct {
	*Stacks
	daemon, ctx context.Context
	id          string // the stack's
}

// operate carries a stack's operation out, phase by phase, from where its record says that
// it is. A phase that cannot be told from the record is tried again.
func (s *Stacks) operate(daemon, ctx context.Context, id string) {
	r := &run{s, daemon, ctx, id}
	backoff := retry.Backoff{First: 200 * time.Millisecond, Limit: time.Minute}
	for {
		st, err := s.get(id)
		if err != nil || st.Operation == nil || st.Operation.Phase == stalled || daemon.Err() != nil {
			return
		}
		switch st.Operation.Phase {
		case forward:
			err = r.forward(st) //nolint:contextcheck // a run has its own
		case restore:
			err = r.restore(st)
		case cleanUp:
			err = r.cleanUp(st)
		default:
			err = r.remove(st)
		}
		if err == nil {
			backoff.Reset()
			continue
		}
		if daemon.Err() != nil {
			return
		}
		wait := backoff.Next()
		s.Logger.Error("an operation on a stack is held up; trying again", zap.String("stack", id), zap.Error(err), zap.Duration("after", wait))
		if retry.Wait(daemon, wait) != nil {
			return
		}
	}
}

func (r *run) record(alter func(*stack)) error { return r.Stacks.record(r.daemon, r.id, alter) }

// enter begins a phase: no resource has a step in it yet.
func (s *stack) enter(phase string) {
	s.Operation.Phase = phase
	for _, h := range s.Resources {
		h.Step = ""
	}
}

// finish ends the operation. What its update kept for a rollback is not needed any more.
func (s *stack) finish(now time.Time, status, reason string) {
	s.move(now, status, reason)
	for _, h := range s.Resources {
		h.Step, h.Before = "", nil
	}
	for _, c := range s.Sets {
		if c.Execution == executing {
			c.Execution = executed
			if status != createComplete && status != updateComplete {
				c.Execution = failedToExecute
			}
		}
	}
	s.Operation = nil
}

// forward makes and changes resources until the stack is what it is to be.
func (r *run) forward(st *stack) error {
	o := st.Operation
	v, err := r.view(st, o.Target)
	if err != nil {
		return r.record(func(st *stack) { r.fail(st, sentence(err)) })
	}
	ctx, cancel := r.limit(st)
	defer cancel()
	r.live(ctx, v, r.id)
	var failed []string
	reason := ""
	imports, err := v.imports()
	if err == nil {
		err = r.record(func(st *stack) {
			st.Imports = slices.Compact(slices.Sorted(slices.Values(append(st.Imports, imports...))))
		})
	}
	if err == nil {
		failed = walk(ctx, v.Dependencies(v.scope.Conditions), func(logical string) bool {
			h := st.Resources[logical]
			return h != nil && h.Step == begun
		}, func(ctx context.Context, logical string) error { return r.put(ctx, v, logical) })
	} else {
		reason = sentence(err)
	}
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	verb := "create"
	if o.Kind == kindUpdate {
		verb = "update"
	}
	switch {
	case ctx.Err() != nil:
		reason = sentence(context.Cause(ctx))
	case len(failed) > 0:
		reason = fmt.Sprintf("The following resource(s) failed to %s: [%s]. ", verb, strings.Join(failed, ", "))
	case reason == "":
		var outputs map[string]output
		if outputs, err = v.outputs(); err == nil {
			err = r.succeed(outputs, imports)
		}
		if err == nil || r.daemon.Err() != nil {
			return err
		}
		reason = sentence(err)
	}
	return r.record(func(st *stack) { r.fail(st, reason) })
}

// sentence is an error, for another sentence to follow.
func sentence(err error) string { return strings.TrimSuffix(err.Error(), ".") + ". " }

// limit is the context of a forward phase: a creation may have a timeout.
func (r *run) limit(st *stack) (context.Context, context.CancelFunc) {
	if st.Operation.Kind != kindCreate || st.Timeout == 0 {
		return context.WithCancel(r.ctx)
	}
	left := st.Operation.Started.Add(time.Duration(st.Timeout) * time.Minute).Sub(r.Now())
	return context.WithTimeoutCause(r.ctx, left, errTime)
}

// succeed ends a forward phase, unless the outputs do not fit in with other stacks'.
func (r *run) succeed(outputs map[string]output, imports []string) error {
	st, err := r.get(r.id)
	if err != nil {
		return err
	}
	if err := r.exportable(st, outputs); err != nil {
		return err
	}
	return r.record(func(st *stack) {
		o := st.Operation
		if o.calledOff() { // since the last resource was done
			r.fail(st, sentence(errStopped))
			return
		}
		st.Spec, st.Outputs, st.Imports = o.Target, outputs, imports
		if o.Kind == kindCreate {
			st.finish(r.Now(), createComplete, "")
			return
		}
		for _, h := range st.Resources {
			if h.Before != nil && h.Before.Birth != h.Now.Birth {
				h.retire(h.Before, h.Now.UpdateReplacePolicy)
			}
			h.Before = nil
		}
		st.enter(cleanUp)
		st.move(r.Now(), updateCleanup, "")
	})
}

// retire puts a physical resource on the list of what is to be removed, or left.
func (h *held) retire(m *made, policy string) {
	if m.ID != "" {
		m.DeletionPolicy = policy
		h.Old = append(h.Old, m)
	}
}

// fail ends a forward phase that went wrong.
func (r *run) fail(st *stack, reason string) {
	o, now := st.Operation, r.Now()
	rollback := strings.TrimSpace(reason + "Rollback requested by user.")
	if o.Cancelled {
		rollback = errStopped.Error()
	}
	switch {
	case o.Delete:
		st.Operation = &operation{ID: token(o.ID, "delete"), Kind: kindDelete, Started: now, Retain: o.Retain, Target: o.Target}
		st.enter(remove)
		st.move(now, deleteInProgress, errStopped.Error())
	case o.Kind == kindCreate && o.OnFailure == onFailureDelete:
		st.enter(remove)
		st.move(now, deleteInProgress, strings.TrimSpace(reason+"Delete requested by user."))
	case o.OnFailure == onFailureNothing && !o.Cancelled:
		for _, h := range st.Resources {
			if h.Before != nil && h.Before.Birth != h.Now.Birth {
				h.retire(h.Before, h.Now.UpdateReplacePolicy)
			}
		}
		st.Spec = o.Target
		st.finish(now, o.Kind+"_FAILED", strings.TrimSpace(reason))
	case o.Kind == kindCreate:
		st.enter(remove)
		st.move(now, rollbackInProgress, rollback)
	default:
		o.Undone = true
		st.enter(restore)
		st.move(now, updateRollbackInProgress, rollback)
	}
}

// request is what a handler is told of a resource.
func (r *run) request(st *stack, logical string, m *made, step string) resource.Request {
	o := st.Operation
	return resource.Request{
		Stack: st.Name, StackID: st.ID, LogicalID: logical, Token: token(st.ID, o.ID, o.Phase, logical, m.Birth, step),
		Name: st.name(logical, m), Tags: st.tags(logical, m.Tags), Properties: maps.Clone(m.Properties),
		CreationPolicy: m.CreationPolicy, UpdatePolicy: m.UpdatePolicy, Signals: awaited{r, logical},
		Progress: func(reason string) {
			_ = r.record(func(st *stack) {
				if h := st.Resources[logical]; h != nil && h.Step == begun {
					st.tell(r.Now(), logical, h.Now, h.Status, reason)
				}
			})
		},
	}
}

// explain words the error of a resource that went wrong.
func explain(ctx context.Context, status string, err error) string {
	switch {
	case ctx.Err() == nil:
		return err.Error()
	case strings.HasPrefix(status, kindUpdate):
		return "Resource update cancelled"
	}
	return errCancelled.Error()
}
