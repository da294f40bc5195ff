// Package iam is AWS IAM as far as instances need it: roles, instance profiles and policies,
// which stacks make, and which tell an instance whose credentials it has. Policies are
// held to IAM's grammar and kept; nothing in the lab evaluates them.
package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Role is one that exists.
type Role struct {
	Name        string            `json:"name"`
	Token       string            `json:"token,omitempty"` // of the request that made it
	Description string            `json:"description,omitempty"`
	Trust       any               `json:"trust"`                // a policy document
	MaxSession  int               `json:"maxSession,omitempty"` // in seconds; 0: 3600
	Boundary    string            `json:"boundary,omitempty"`   // ARN of a policy
	Managed     []string          `json:"managed,omitempty"`    // ARNs of policies
	Inline      map[string]any    `json:"inline,omitempty"`     // policy documents by name
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created"`
}

// Profile is an instance profile that exists.
type Profile struct {
	Name    string    `json:"name"`
	Token   string    `json:"token,omitempty"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
}

// Policy is a managed policy of the account.
type Policy struct {
	Name        string    `json:"name"`
	Token       string    `json:"token,omitempty"`
	Description string    `json:"description,omitempty"`
	Document    any       `json:"document"`
	Created     time.Time `json:"created"`
}

// Store is what exists, in one file that is written whole. It is safe for concurrent use.
type Store struct {
	Path string
	Plan vpc.Plan
	// Profile is an instance profile that there always is, with a role of its name; empty:
	// there is none.
	Profile string
	Now     func() time.Time

	mu  sync.Mutex
	all record
}

type record struct {
	Roles    map[string]Role    `json:"roles"`
	Profiles map[string]Profile `json:"profiles"`
	Policies map[string]Policy  `json:"policies"`
}

// Open reads what is in the file.
func (s *Store) Open() error {
	data, err := os.ReadFile(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the roles: %w", err)
	default:
		if err := json.Unmarshal(data, &s.all); err != nil {
			return fmt.Errorf("read the roles from %s: %w", s.Path, err)
		}
	}
	s.all = s.all.clone()
	if s.Profile != "" {
		if _, ok := s.all.Profiles[s.Profile]; !ok {
			now := s.Now().UTC()
			s.all.Profiles[s.Profile] = Profile{Name: s.Profile, Role: s.Profile, Created: now}
			s.all.Roles[s.Profile] = Role{Name: s.Profile, Trust: trusted("ec2.amazonaws.com"), Created: now}
		}
	}
	return nil
}

// trusted is a trust policy for a service.
func trusted(service string) any {
	return map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Principal": map[string]any{"Service": service}, "Action": "sts:AssumeRole"},
	}}
}

// clone is a copy that can be changed; roles, profiles and policies are values that are
// replaced whole.
func (r record) clone() record {
	out := record{map[string]Role{}, map[string]Profile{}, map[string]Policy{}}
	maps.Copy(out.Roles, r.Roles)
	maps.Copy(out.Profiles, r.Profiles)
	maps.Copy(out.Policies, r.Policies)
	return out
}

// change alters what exists and saves it, or leaves it as it was.
func (s *Store) change(alter func(*record) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.all.clone()
	err := alter(&next)
	if err == nil {
		err = state.WriteJSON(s.Path, next, 0o600)
	}
	if err == nil {
		s.all = next
	}
	return err
}

func (s *Store) look() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.clone()
}

// HasProfile tells whether there is an instance profile.
func (s *Store) HasProfile(name string) bool {
	_, ok := s.look().Profiles[name]
	return ok
}

// Role is the name of an instance profile's role; empty when there is no such profile any
// more, and so no credentials.
func (s *Store) Role(profile string) string { return s.look().Profiles[profile].Role }

func taken(kind, name string) error {
	return query.Refuse("EntityAlreadyExists", "%s with name %s already exists.", kind, name)
}

func missing(kind, name string) error {
	err := query.Refuse("NoSuchEntity", "The %s with name %s cannot be found.", kind, name)
	err.Status = 404
	return err
}

func (s *Store) policyARN(name string) string { return s.Plan.IAM("policy/" + name) }

// attachable tells whether there is a managed policy. Those of AWS are not looked up.
func (s *Store) attachable(all *record, arn string) error {
	if strings.HasPrefix(arn, "arn:"+s.Plan.Partition+":iam::aws:policy/") {
		return nil
	}
	name, ok := strings.CutPrefix(arn, s.policyARN(""))
	if _, exists := all.Policies[name]; !ok || !exists {
		return query.Refuse("NoSuchEntity", "Policy %s does not exist or is not attachable.", arn)
	}
	return nil
}

// putRole makes a role, or with replace changes it.
func (s *Store) putRole(r Role, replace bool) error {
	if err := CheckDocument(r.Trust, Trust); err != nil {
		return err
	}
	for name, document := range r.Inline {
		if err := CheckDocument(document, Identity); err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
	}
	return s.change(func(all *record) error {
		was, exists := all.Roles[r.Name]
		switch {
		case replace && !exists:
			return missing("role", r.Name)
		case exists && !replace && was.Token != r.Token:
			return taken("Role", r.Name)
		}
		arns := slices.Clone(r.Managed)
		if r.Boundary != "" {
			arns = append(arns, r.Boundary)
		}
		for _, arn := range arns {
			if err := s.attachable(all, arn); err != nil {
				return err
			}
		}
		r.Created = s.Now().UTC()
		if exists {
			r.Created, r.Token = was.Created, was.Token
		}
		all.Roles[r.Name] = r
		return nil
	})
}

func (s *Store) deleteRole(name string) error {
	return s.change(func(all *record) error {
		for _, p := range all.Profiles {
			if p.Role == name {
				return query.Refuse("DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
			}
		}
		delete(all.Roles, name)
		return nil
	})
}

func (s *Store) putProfile(p Profile, replace bool) error {
	return s.change(func(all *record) error {
		was, exists := all.Profiles[p.Name]
		switch _, hasRole := all.Roles[p.Role]; {
		case !hasRole:
			return missing("role", p.Role)
		case replace && !exists:
			return missing("instance profile", p.Name)
		case exists && !replace && was.Token != p.Token:
			return taken("Instance Profile", p.Name)
		}
		p.Created = s.Now().UTC()
		if exists {
			p.Created, p.Token = was.Created, was.Token
		}
		all.Profiles[p.Name] = p
		return nil
	})
}

func (s *Store) deleteProfile(name string) error {
	return s.change(func(all *record) error { delete(all.Profiles, name); return nil })
}

// putPolicy makes a managed policy, or changes it, and attaches it to roles: to those and,
// of those that had it by before, to no others.
func (s *Store) putPolicy(p Policy, replace bool, before, roles []string) error {
	if err := CheckDocument(p.Document, Identity); err != nil {
		return err
	}
	return s.change(func(all *record) error {
		was, exists := all.Policies[p.Name]
		switch {
		case replace && !exists:
			return missing("policy", p.Name)
		case exists && !replace && was.Token != p.Token:
			return taken("A policy", p.Name)
		}
		p.Created = s.Now().UTC()
		if exists {
			p.Created, p.Token = was.Created, was.Token
		}
		all.Policies[p.Name] = p
		return all.attach(s.policyARN(p.Name), before, roles)
	})
}

// attach takes a managed policy off the roles of before and puts it on others.
func (r *record) attach(arn string, before, roles []string) error {
	for _, name := range before {
		if role, ok := r.Roles[name]; ok {
			role.Managed = slices.DeleteFunc(slices.Clone(role.Managed), func(other string) bool { return other == arn })
			r.Roles[name] = role
		}
	}
	for _, name := range roles {
		role, ok := r.Roles[name]
		if !ok {
			return missing("role", name)
		}
		if !slices.Contains(role.Managed, arn) {
			role.Managed = append(slices.Clone(role.Managed), arn)
		}
		r.Roles[name] = role
	}
	return nil
}

func (s *Store) deletePolicy(name string, roles []string) error {
	return s.change(func(all *record) error {
		arn := s.policyARN(name)
		if err := all.attach(arn, roles, nil); err != nil {
			return err
		}
		for _, role := range all.Roles {
			if slices.Contains(role.Managed, arn) || role.Boundary == arn {
				return query.Refuse("DeleteConflict", "Cannot delete a policy attached to entities.")
			}
		}
		delete(all.Policies, name)
		return nil
	})
}

// putInline puts an inline policy on roles, and takes it off those of before; a nil document
// only does the latter.
func (s *Store) putInline(name string, document any, before, roles []string) error {
	if document != nil {
		if err := CheckDocument(document, Identity); err != nil {
			return err
		}
	}
	return s.change(func(all *record) error {
		for _, role := range before {
			if r, ok := all.Roles[role]; ok {
				r.Inline = maps.Clone(r.Inline)
				delete(r.Inline, name)
				all.Roles[role] = r
			}
		}
		for _, role := range roles {
			r, ok := all.Roles[role]
			if !ok {
				return missing("role", role)
			}
			inline := map[string]any{}
			maps.Copy(inline, r.Inline)
			inline[name] = document
			r.Inline = inline
			all.Roles[role] = r
		}
		return nil
	})
}
