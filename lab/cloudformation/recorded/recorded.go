// Package recorded has resource types that the lab keeps a record of and does nothing with:
// load balancers that balance nothing, keys that nothing is encrypted with, builds and schedules
// that never begin. Buckets are S3's where there is one, and what a template says of them is on
// record only. They are here so that a whole template can be
// made, changed and deleted, with properties held to what the types take and references that
// resolve. What a resource does is not played.
package recorded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Store is the resources that exist, in one file that is written whole. It is safe for
// concurrent use.
type Store struct {
	Path string
	Plan vpc.Plan
	// Buckets is S3; nil: buckets too are on record only.
	Buckets Buckets

	mu  sync.Mutex
	all map[string]item // by the type and the physical ID
}

// Buckets makes and removes buckets.
type Buckets interface {
	// Make finds what it has made before by the same token.
	Make(name, token string) error
	// Remove fails for a bucket that is not empty. One that is gone is no error.
	Remove(name string) error
	Has(name string) bool
}

// item is one resource.
type item struct {
	Token      string         `json:"token"`
	Properties map[string]any `json:"properties,omitempty"`
}

// Open reads what is in the file.
func (s *Store) Open() error {
	s.all = map[string]item{}
	data, err := os.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the recorded resources: %w", err)
	}
	if err := json.Unmarshal(data, &s.all); err != nil {
		return fmt.Errorf("read the recorded resources from %s: %w", s.Path, err)
	}
	return nil
}

// change alters what exists and saves it, or leaves it as it was.
func (s *Store) change(alter func(map[string]item) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(s.all)
	err := alter(next)
	if err == nil {
		err = state.WriteJSON(s.Path, next, 0o600)
	}
	if err == nil {
		s.all = next
	}
	return err
}

func (s *Store) has(kind, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.all[kind+" "+id]
	return ok
}

// form is what makes a type of a record: how its resources are identified, and what is wrong
// with properties that can be decoded.
type form struct {
	kind string
	id   func(s *Store, r resource.Request) (string, error)
	// attribute is the value of an attribute for a physical ID.
	attribute func(s *Store, id, name string) string
	check     func(s *Store, properties map[string]any) error // nil: nothing is wrong
	// real is what stands behind the record, if anything does.
	real Buckets
}

// handler implements resource.Handler for a form.
type handler struct {
	*Store
	form
}

func (h handler) Create(_ context.Context, r resource.Request) (string, error) {
	if err := h.checked(r); err != nil {
		return "", err
	}
	id, err := h.id(h.Store, r)
	if err != nil {
		return "", err
	}
	if h.real != nil {
		if err := h.real.Make(id, r.Token); err != nil {
			return "", err
		}
	}
	err = h.change(func(all map[string]item) error {
		if was, ok := all[h.kind+" "+id]; ok && was.Token != r.Token && h.real == nil {
			return query.Refuse("AlreadyExists", "Resource of type '%s' with identifier '%s' already exists.", h.kind, id)
		}
		all[h.kind+" "+id] = item{r.Token, r.Properties}
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

func (h handler) checked(r resource.Request) error {
	if h.check == nil {
		return nil
	}
	return h.check(h.Store, r.Properties)
}

func (h handler) Update(_ context.Context, id string, r resource.Request) error {
	if err := h.checked(r); err != nil {
		return err
	}
	return h.change(func(all map[string]item) error {
		was, ok := all[h.kind+" "+id]
		if !ok {
			return resource.ErrNotFound
		}
		all[h.kind+" "+id] = item{was.Token, r.Properties}
		return nil
	})
}

func (h handler) Delete(_ context.Context, id string, _ resource.Request) error {
	if h.real != nil {
		if err := h.real.Remove(id); err != nil {
			return err
		}
	}
	return h.change(func(all map[string]item) error { delete(all, h.kind+" "+id); return nil })
}

func (handler) Ref(id string) string { return id }

func (h handler) Attribute(_ context.Context, id, name string) (any, error) {
	if !h.has(h.kind, id) {
		return nil, resource.ErrNotFound
	}
	return h.attribute(h.Store, id, name), nil
}

// regional makes an ARN in the plan's region.
func (s *Store) regional(service, rest string) string {
	return "arn:" + s.Plan.Partition + ":" + service + ":" + s.Plan.Region + ":" + s.Plan.Account + ":" + rest
}

// digits are hexadecimal, the same for the same token.
func digits(token string, n int) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])[:n]
}

// text is a property that is text.
func text(properties map[string]any, name string) string {
	v, _ := properties[name].(string)
	return v
}

// named is the name that a template gives in a property, or CloudFormation's.
func named(property string, most int) func(*Store, resource.Request) (string, error) {
	return func(_ *Store, r resource.Request) (string, error) {
		name := text(r.Properties, property)
		if name == "" {
			name = r.NameWithin(most)
		}
		if len(name) > most {
			return "", query.Invalid("%s is longer than %d characters", name, most)
		}
		return name, nil
	}
}
