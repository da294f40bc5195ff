package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

// replaces is what CloudFormation says of an update that makes another physical resource.
const replaces = "Requested update requires the creation of a new physical resource; hence creating one."

// put makes one resource what the view wants it to be.
func (r *run) put(ctx context.Context, v *view, logical string) error {
	st, err := r.get(r.id)
	if err != nil {
		return err
	}
	h := st.Resources[logical]
	switch {
	case h != nil && h.Step == done:
		return nil
	case h == nil || h.Step != begun:
		need, err := r.begin(ctx, v, st, logical)
		if err != nil || !need {
			return err
		}
	}
	if st, err = r.get(r.id); err != nil {
		return err
	}
	h = st.Resources[logical]
	id := h.Now.ID
	if h.Before != nil && h.Before.Birth == h.Now.Birth {
		err = r.change(ctx, st, logical, h.Now, h.Before)
	} else {
		id, err = r.create(ctx, st, logical)
	}
	if r.daemon.Err() != nil {
		return r.daemon.Err()
	}
	verb, _, _ := strings.Cut(h.Status, "_")
	return errors.Join(err, r.record(func(st *stack) {
		h := st.Resources[logical]
		h.Now.ID = id
		if err != nil {
			st.tell(r.Now(), logical, h.Now, verb+"_FAILED", explain(ctx, verb, err))
			return
		}
		h.Step = done
		st.tell(r.Now(), logical, h.Now, verb+"_COMPLETE", "")
	}))
}

// begin decides what a resource needs, and records that it is under way. It answers false
// for one that is as it should be.
func (r *run) begin(_ context.Context, v *view, st *stack, logical string) (bool, error) {
	h := st.Resources[logical]
	want, err := v.wanted(logical)
	if err == nil {
		err = r.complete(v.Resources[logical].Type, want)
	}
	if err != nil {
		return false, errors.Join(err, r.record(func(st *stack) { st.refuse(r.Now(), v, logical, err) }))
	}
	how := r.compare(v.Resources[logical].Type, h, want)
	if how == nothing {
		return false, nil
	}
	return how != silent, r.record(func(st *stack) {
		h := st.Resources[logical]
		switch {
		case h == nil:
			if st.Resources == nil {
				st.Resources = map[string]*held{}
			}
			h = &held{Type: v.Resources[logical].Type}
			st.Resources[logical] = h
		case how == create:
			h.retire(h.Now, "") // what failed to be made
		case h.Before == nil:
			h.Before = h.Now
		}
		want.Birth = st.Operation.ID
		if how == update || how == silent {
			want.ID, want.Birth = h.Now.ID, h.Now.Birth
		}
		h.Again = strings.HasSuffix(h.Status, "_FAILED")
		h.Now, h.Step = want, begun
		switch how {
		case create:
			st.tell(r.Now(), logical, want, createInProgress, "")
		case replace:
			st.tell(r.Now(), logical, want, updateInProgress, replaces)
		case update:
			st.tell(r.Now(), logical, want, updateInProgress, "")
		default:
			h.Step = done
		}
	})
}

// refuse tells of a resource whose properties cannot be resolved.
func (s *stack) refuse(now time.Time, v *view, logical string, err error) {
	h, status := s.Resources[logical], updateFailed
	if h == nil {
		if s.Resources == nil {
			s.Resources = map[string]*held{}
		}
		h, status = &held{Type: v.Resources[logical].Type, Now: &made{Birth: s.Operation.ID}}, createFailed
		s.Resources[logical] = h
	}
	s.tell(now, logical, h.Now, status, err.Error())
}

// complete checks resolved properties against their type.
func (r *run) complete(kind string, m *made) error {
	t, ok := r.typeOf(kind)
	if !ok {
		return fmt.Errorf("the lab does not support the resource type %s", kind)
	}
	return check(t, m.Properties)
}

// What a resource needs.
type need int

const (
	nothing need = iota
	silent       // its policies, which no handler is told of until they matter
	create
	update
	replace
)

// compare decides what makes of a resource the one that is wanted.
func (s *Stacks) compare(kind string, h *held, want *made) need {
	switch {
	case h == nil || h.Now.ID == "" || h.Status == createFailed:
		return create
	case strings.HasSuffix(h.Status, "_FAILED"):
	case !alike(want.Properties, h.Now.Properties) || !alike(want.Metadata, h.Now.Metadata) || !maps.Equal(want.Tags, h.Now.Tags):
	case want.DeletionPolicy == h.Now.DeletionPolicy && want.UpdateReplacePolicy == h.Now.UpdateReplacePolicy &&
		alike(want.CreationPolicy, h.Now.CreationPolicy) && alike(want.UpdatePolicy, h.Now.UpdatePolicy) && slices.Equal(want.DependsOn, h.Now.DependsOn):
		return nothing
	default:
		return silent
	}
	t, _ := s.typeOf(kind)
	for _, name := range t.CreateOnly {
		if !alike(nested(want.Properties, name), nested(h.Now.Properties, name)) {
			return replace
		}
	}
	return update
}

// nested is the property A.B.
func nested(properties map[string]any, name string) any {
	first, rest, more := strings.Cut(name, ".")
	if !more {
		return properties[first]
	}
	switch inner := properties[first].(type) {
	case map[string]any:
		return nested(inner, rest)
	case []any:
		all := []any{}
		for _, v := range inner {
			object, _ := v.(map[string]any)
			all = append(all, nested(object, rest))
		}
		return all
	}
	return nil
}

// create makes a physical resource and waits for its signals. The ID is on record once the
// resource is made as it should be.
func (r *run) create(ctx context.Context, st *stack, logical string) (id string, err error) {
	h := st.Resources[logical]
	t, _ := r.typeOf(h.Type)
	if id = h.Now.ID; id == "" {
		q := r.request(st, logical, h.Now, "create")
		q.Token = token(st.ID, logical, h.Now.Birth)
		id, err = t.Handler.Create(ctx, q)
		if err == nil && id == "" {
			err = fmt.Errorf("the type %s gave the resource no ID", h.Type)
		}
		if err == nil {
			err = r.record(func(st *stack) {
				h := st.Resources[logical]
				h.Now.ID = id
				st.tell(r.Now(), logical, h.Now, h.Status, "Resource creation Initiated")
			})
		}
		if err != nil {
			return id, err
		}
	}
	return id, awaitCreation(ctx, awaited{r, logical}, h.Now.CreationPolicy)
}

// change updates a physical resource from what it was.
func (r *run) change(ctx context.Context, st *stack, logical string, now, before *made) error {
	if alike(now.Properties, before.Properties) && maps.Equal(now.Tags, before.Tags) && !st.Resources[logical].Again {
		return nil // its metadata is the template's own
	}
	t, _ := r.typeOf(st.Resources[logical].Type)
	q := r.request(st, logical, now, "update")
	q.Before = maps.Clone(before.Properties)
	err := t.Handler.Update(ctx, now.ID, q)
	if errors.Is(err, resource.ErrNotFound) {
		return fmt.Errorf("Resource of type '%s' with identifier '%s' was not found.", t.Name, now.ID) //nolint:staticcheck // CloudFormation's words
	}
	return err
}
