package cloudformation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
)

// restore takes the resources that an update has changed back to what they were.
func (r *run) restore(st *stack) error {
	nodes := map[string][]string{}
	for logical, h := range st.Resources {
		if h.Before != nil && h.Step != done {
			nodes[logical] = h.Before.DependsOn
		}
	}
	skip := st.Operation.Skip
	failed := walk(r.daemon, nodes, func(string) bool { return false }, func(ctx context.Context, logical string) error {
		return r.undo(ctx, logical, slices.Contains(skip, logical))
	})
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	return r.record(func(st *stack) {
		if len(failed) > 0 {
			st.Operation.Phase = stalled
			st.move(r.Now(), updateRollbackFailed, fmt.Sprintf("The following resource(s) failed to update: [%s]. ", strings.Join(failed, ", ")))
			return
		}
		st.enter(cleanUp)
		st.move(r.Now(), updateRollbackCleanup, "")
	})
}

// undo takes one resource back.
func (r *run) undo(ctx context.Context, logical string, skip bool) error {
	st, err := r.get(r.id)
	if err != nil {
		return err
	}
	h := st.Resources[logical]
	replaced := h.Now.Birth != h.Before.Birth
	untold := !replaced && h.Step == "" && alike(h.Now.Properties, h.Before.Properties) && maps.Equal(h.Now.Tags, h.Before.Tags)
	if !replaced && !skip && !untold {
		if h.Step != begun {
			err = r.record(func(st *stack) {
				h := st.Resources[logical]
				h.Step = begun
				st.tell(r.Now(), logical, h.Now, updateInProgress, "")
			})
		}
		if err == nil {
			t, _ := r.typeOf(h.Type)
			q := r.request(st, logical, h.Before, "undo")
			q.Before = maps.Clone(h.Now.Properties)
			err = t.Handler.Update(ctx, h.Before.ID, q)
		}
		if r.daemon.Err() != nil {
			return r.daemon.Err()
		}
		if err != nil {
			return fmt.Errorf("%w%w", err, r.record(func(st *stack) {
				h := st.Resources[logical]
				h.Step = ""
				st.tell(r.Now(), logical, h.Now, updateFailed, explain(ctx, updateFailed, err))
			}))
		}
	}
	return r.record(func(st *stack) {
		h := st.Resources[logical]
		if replaced {
			h.retire(h.Now, template.Delete)
		}
		h.Now, h.Before, h.Step = h.Before, nil, done
		if !untold {
			st.tell(r.Now(), logical, h.Now, updateComplete, "")
		}
	})
}

// cleanUp removes what an update, or its undoing, has left over.
func (r *run) cleanUp(st *stack) error {
	v, err := r.view(st, st.Spec)
	if err != nil {
		return err
	}
	undone := st.Operation.Undone
	var doomed []doom
	for logical, h := range st.Resources {
		for _, m := range h.Old {
			doomed = append(doomed, doom{logical, m})
		}
		if !v.exists(logical) {
			doomed = append(doomed, doom{logical, h.Now})
		}
	}
	failed := r.removeAll(doomed, undone)
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	return r.record(func(st *stack) {
		status, reason := updateComplete, ""
		if undone {
			status = updateRollbackComplete
		}
		if len(failed) > 0 {
			reason = "Update successful. One or more resources could not be deleted."
			for logical, h := range st.Resources {
				h.Old = nil
				if !v.exists(logical) {
					delete(st.Resources, logical)
				}
			}
		}
		if undone {
			st.Imports, _ = v.imports()
		}
		st.finish(r.Now(), status, reason)
	})
}

// remove removes all resources of a stack.
func (r *run) remove(st *stack) error {
	var doomed []doom
	for logical, h := range st.Resources {
		for _, m := range h.Old {
			doomed = append(doomed, doom{logical, m})
		}
		if h.Before != nil && h.Before.Birth != h.Now.Birth {
			doomed = append(doomed, doom{logical, h.Before})
		}
		doomed = append(doomed, doom{logical, h.Now})
	}
	o := st.Operation
	failed := r.removeAll(doomed, o.Kind == kindCreate)
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	return r.record(func(st *stack) {
		reason := ""
		if len(failed) > 0 {
			reason = fmt.Sprintf("The following resource(s) failed to delete: [%s]. ", strings.Join(failed, ", "))
		}
		switch {
		case o.Kind == kindCreate && o.OnFailure != onFailureDelete && reason == "":
			st.Imports = nil
			st.finish(r.Now(), rollbackComplete, "")
		case o.Kind == kindCreate && o.OnFailure != onFailureDelete:
			st.finish(r.Now(), rollbackFailed, reason)
		case reason == "":
			st.Deleted, st.Outputs, st.Imports = r.Now(), nil, nil
			st.finish(st.Deleted, deleteComplete, "")
		default:
			st.finish(r.Now(), deleteFailed, reason)
		}
	})
}

// doom is a physical resource that is to go.
type doom struct {
	logical string
	m       *made
}

func (d doom) key() string { return d.logical + "\x00" + d.m.Birth + "\x00" + d.m.ID }

// removeAll removes physical resources, each after what depends on it. It answers the logical
// IDs of those that are still there. Undoing a creation leaves nothing of what it made but
// what is to be retained always.
func (r *run) removeAll(doomed []doom, undoing bool) []string {
	nodes, byKey := map[string][]string{}, map[string]doom{}
	for _, d := range doomed {
		byKey[d.key()], nodes[d.key()] = d, nil
	}
	for _, d := range doomed {
		for _, other := range doomed {
			if slices.Contains(d.m.DependsOn, other.logical) && d.logical != other.logical {
				nodes[other.key()] = append(nodes[other.key()], d.key())
			}
		}
	}
	removed := map[string]bool{}
	results := make(chan string, len(doomed))
	follow(nodes, func(string) bool { return r.daemon.Err() == nil }, func(key string) bool {
		d := byKey[key]
		if r.removeOne(d, undoing) != nil {
			return false
		}
		results <- key
		return true
	})
	close(results)
	for key := range results {
		removed[key] = true
	}
	var left []string
	for key, d := range byKey {
		if !removed[key] && !slices.Contains(left, d.logical) {
			left = append(left, d.logical)
		}
	}
	slices.Sort(left)
	return left
}

// removeOne removes a physical resource, or leaves it where its policy says so.
func (r *run) removeOne(d doom, undoing bool) error {
	st, err := r.get(r.id)
	if err != nil {
		return err
	}
	policy := d.m.DeletionPolicy
	keep := policy == template.Retain || policy == template.RetainExceptOnCreate && !undoing || slices.Contains(st.Operation.Retain, d.logical)
	switch {
	case d.m.ID == "":
	case keep:
		err = r.record(func(st *stack) { st.tell(r.Now(), d.logical, st.Resources[d.logical].same(d.m), deleteSkipped, "") })
	default:
		err = r.destroy(st, d, policy)
	}
	if err != nil {
		return err
	}
	return r.record(func(st *stack) {
		h := st.Resources[d.logical]
		h.Old = slices.DeleteFunc(h.Old, d.is)
		if h.Before != nil && d.is(h.Before) {
			h.Before = nil
		}
		h.Gone = h.Gone || d.is(h.Now)
		if h.Gone && len(h.Old) == 0 && h.Before == nil {
			delete(st.Resources, d.logical)
		}
	})
}

// is tells whether it is the same physical resource, or the same that was never made.
func (d doom) is(m *made) bool { return m.ID == d.m.ID && m.Birth == d.m.Birth }

// same is the record's own value of a physical resource.
func (h *held) same(m *made) *made {
	if h.Now.ID == m.ID && h.Now.Birth == m.Birth {
		return h.Now
	}
	return m
}

func (r *run) destroy(st *stack, d doom, policy string) error {
	if err := r.record(func(st *stack) { st.tell(r.Now(), d.logical, st.Resources[d.logical].same(d.m), deleteInProgress, "") }); err != nil {
		return err
	}
	t, _ := r.typeOf(st.Resources[d.logical].Type)
	q := r.request(st, d.logical, d.m, "delete "+d.m.ID)
	var err error
	if snapshots, ok := t.Handler.(resource.Snapshotter); ok && policy == template.Snapshot {
		err = snapshots.Snapshot(r.daemon, d.m.ID, q)
	}
	if err == nil {
		err = t.Handler.Delete(r.daemon, d.m.ID, q)
	}
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	status, reason := deleteComplete, ""
	if err != nil {
		status, reason = deleteFailed, err.Error()
	}
	if recorded := r.record(func(st *stack) { st.tell(r.Now(), d.logical, st.Resources[d.logical].same(d.m), status, reason) }); recorded != nil {
		return recorded
	}
	return err
}
