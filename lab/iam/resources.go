package iam

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// Longest names, in characters.
const (
	maxRole    = 64
	maxProfile = 128
	maxPolicy  = 128
)

var entityName = regexp.MustCompile(`^[\w+=,.@-]+$`)

// ResourceTypes are what stacks can make: AWS::IAM::Role, InstanceProfile, ManagedPolicy and
// Policy. The lab has the path / only, and no users or groups.
func (s *Store) ResourceTypes() []resource.Type {
	return []resource.Type{
		{
			Name: "AWS::IAM::Role", Properties: &roleProperties{}, Required: []string{"AssumeRolePolicyDocument"}, CreateOnly: []string{"RoleName", "Path"},
			Attributes: []string{"Arn", "RoleId"}, Handler: roles{s},
		},
		{
			Name: "AWS::IAM::InstanceProfile", Properties: &profileProperties{}, Required: []string{"Roles"}, CreateOnly: []string{"InstanceProfileName", "Path"},
			Attributes: []string{"Arn"}, Handler: profiles{s},
		},
		{
			Name: "AWS::IAM::ManagedPolicy", Properties: &managedProperties{}, Required: []string{"PolicyDocument"},
			CreateOnly: []string{"ManagedPolicyName", "Description", "Path"}, Attributes: []string{"PolicyArn", "PolicyId"}, Handler: managed{s},
		},
		{
			Name: "AWS::IAM::Policy", Properties: &policyProperties{}, Required: []string{"PolicyDocument", "PolicyName"}, Attributes: []string{"Id"}, Handler: policies{s},
		},
	}
}

type tag struct{ Key, Value string }

type roleProperties struct {
	AssumeRolePolicyDocument    any
	Description, Path, RoleName string
	ManagedPolicyArns           []string
	MaxSessionDuration          int
	PermissionsBoundary         string
	Policies                    []inline
	Tags                        []tag
}

type inline struct {
	PolicyName     string
	PolicyDocument any
}

type profileProperties struct {
	InstanceProfileName, Path string
	Roles                     []string
}

type managedProperties struct {
	PolicyDocument                       any
	ManagedPolicyName, Description, Path string
	Roles                                []string
}

type policyProperties struct {
	PolicyName     string
	PolicyDocument any
	Roles          []string
}

// read decodes properties; the path is checked and the name found.
func read(properties map[string]any, out any) error {
	if err := resource.Decode(properties, out); err != nil {
		return err
	}
	if path, ok := properties["Path"]; ok && path != "/" {
		return query.Invalid("The lab has the path / only, not %v", path)
	}
	return nil
}

// named is the name that a template gives, or CloudFormation's.
func named(given string, r resource.Request, limit int) (string, error) {
	if given == "" {
		given = r.NameWithin(limit)
	}
	if len(given) > limit || !entityName.MatchString(given) {
		return "", query.Invalid("The specified value for the name is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_- (%s)", given)
	}
	return given, nil
}

type roles struct{ *Store }

func (roles) Ref(id string) string { return id }

// role makes one of the properties.
func (h roles) role(name string, r resource.Request) (Role, error) {
	var p roleProperties
	if err := read(r.Properties, &p); err != nil {
		return Role{}, err
	}
	role := Role{
		Name: name, Token: r.Token, Description: p.Description, Trust: p.AssumeRolePolicyDocument, MaxSession: p.MaxSessionDuration,
		Boundary: p.PermissionsBoundary, Managed: p.ManagedPolicyArns, Inline: map[string]any{}, Tags: map[string]string{},
	}
	if role.MaxSession != 0 && (role.MaxSession < 3600 || role.MaxSession > 43200) {
		return role, query.Invalid("MaxSessionDuration must be between 3600 and 43200, not %d", role.MaxSession)
	}
	for _, policy := range p.Policies {
		if _, twice := role.Inline[policy.PolicyName]; twice || !entityName.MatchString(policy.PolicyName) {
			return role, query.Invalid("The name of the policy %q is empty, invalid or given twice", policy.PolicyName)
		}
		role.Inline[policy.PolicyName] = policy.PolicyDocument
	}
	for key, value := range r.Tags {
		if !strings.HasPrefix(key, "aws:") {
			role.Tags[key] = value
		}
	}
	for _, t := range p.Tags {
		role.Tags[t.Key] = t.Value
	}
	return role, nil
}

func (h roles) Create(_ context.Context, r resource.Request) (string, error) {
	given, _ := r.Properties["RoleName"].(string)
	name, err := named(given, r, maxRole)
	if err != nil {
		return "", err
	}
	role, err := h.role(name, r)
	if err != nil {
		return "", err
	}
	if err := h.putRole(role, false); err != nil {
		return "", err
	}
	return name, nil
}

func (h roles) Update(_ context.Context, id string, r resource.Request) error {
	role, err := h.role(id, r)
	if err != nil {
		return err
	}
	// What policies of other resources have put on it stays.
	now, before := h.look().Roles[id], roleProperties{}
	if err := resource.Decode(r.Before, &before); err != nil {
		return err
	}
	for _, arn := range now.Managed {
		if !slices.Contains(before.ManagedPolicyArns, arn) && !slices.Contains(role.Managed, arn) {
			role.Managed = append(role.Managed, arn)
		}
	}
	for name, document := range now.Inline {
		own := slices.ContainsFunc(before.Policies, func(p inline) bool { return p.PolicyName == name })
		if _, ok := role.Inline[name]; !own && !ok {
			role.Inline[name] = document
		}
	}
	return h.putRole(role, true)
}

func (h roles) Delete(_ context.Context, id string, _ resource.Request) error {
	return h.deleteRole(id)
}

func (h roles) Attribute(_ context.Context, id, name string) (any, error) {
	if _, ok := h.look().Roles[id]; !ok {
		return nil, resource.ErrNotFound
	}
	arn := h.Plan.IAM("role/" + id)
	if name == "RoleId" {
		return identity.UniqueID("AROA", arn), nil
	}
	return arn, nil
}

type profiles struct{ *Store }

func (profiles) Ref(id string) string { return id }

func (h profiles) profile(name string, r resource.Request) (Profile, error) {
	var p profileProperties
	if err := read(r.Properties, &p); err != nil {
		return Profile{}, err
	}
	if len(p.Roles) != 1 {
		return Profile{}, query.Invalid("An instance profile has exactly one role, not %d", len(p.Roles))
	}
	return Profile{Name: name, Token: r.Token, Role: p.Roles[0]}, nil
}

func (h profiles) Create(_ context.Context, r resource.Request) (string, error) {
	given, _ := r.Properties["InstanceProfileName"].(string)
	name, err := named(given, r, maxProfile)
	if err != nil {
		return "", err
	}
	p, err := h.profile(name, r)
	if err != nil {
		return "", err
	}
	if err := h.putProfile(p, false); err != nil {
		return "", err
	}
	return name, nil
}

func (h profiles) Update(_ context.Context, id string, r resource.Request) error {
	p, err := h.profile(id, r)
	if err != nil {
		return err
	}
	return h.putProfile(p, true)
}

func (h profiles) Delete(_ context.Context, id string, _ resource.Request) error {
	return h.deleteProfile(id)
}

func (h profiles) Attribute(_ context.Context, id, _ string) (any, error) {
	if !h.HasProfile(id) {
		return nil, resource.ErrNotFound
	}
	return h.Plan.IAM("instance-profile/" + id), nil
}

// managed are known by their ARN.
type managed struct{ *Store }

func (managed) Ref(id string) string { return id }

func (h managed) name(id string) string { return strings.TrimPrefix(id, h.policyARN("")) }

func (h managed) put(name string, r resource.Request, replace bool) error {
	var p, before managedProperties
	if err := read(r.Properties, &p); err != nil {
		return err
	}
	if err := resource.Decode(r.Before, &before); err != nil {
		return err
	}
	return h.putPolicy(Policy{Name: name, Token: r.Token, Description: p.Description, Document: p.PolicyDocument}, replace, before.Roles, p.Roles)
}

func (h managed) Create(_ context.Context, r resource.Request) (string, error) {
	given, _ := r.Properties["ManagedPolicyName"].(string)
	name, err := named(given, r, maxPolicy)
	if err != nil {
		return "", err
	}
	if err := h.put(name, r, false); err != nil {
		return "", err
	}
	return h.policyARN(name), nil
}

func (h managed) Update(_ context.Context, id string, r resource.Request) error {
	return h.put(h.name(id), r, true)
}

func (h managed) Delete(_ context.Context, id string, r resource.Request) error {
	var p managedProperties
	if err := resource.Decode(r.Properties, &p); err != nil {
		return err
	}
	return h.deletePolicy(h.name(id), p.Roles)
}

func (h managed) Attribute(_ context.Context, id, name string) (any, error) {
	if _, ok := h.look().Policies[h.name(id)]; !ok {
		return nil, resource.ErrNotFound
	}
	if name == "PolicyId" {
		return identity.UniqueID("ANPA", id), nil
	}
	return id, nil
}

// policies are inline: they are on their roles, and nowhere else.
type policies struct{ *Store }

func (policies) Ref(id string) string { return id }

func (h policies) put(r resource.Request) error {
	var p, before policyProperties
	if err := read(r.Properties, &p); err != nil {
		return err
	}
	if err := resource.Decode(r.Before, &before); err != nil {
		return err
	}
	if len(p.Roles) == 0 || !entityName.MatchString(p.PolicyName) {
		return query.Invalid("At least one of [Groups,Roles,Users] must be non-empty, and the policy needs a name; the lab has roles only")
	}
	if before.PolicyName != "" && before.PolicyName != p.PolicyName {
		if err := h.putInline(before.PolicyName, nil, before.Roles, nil); err != nil {
			return err
		}
	}
	return h.putInline(p.PolicyName, p.PolicyDocument, before.Roles, p.Roles)
}

func (h policies) Create(_ context.Context, r resource.Request) (string, error) {
	if err := h.put(r); err != nil {
		return "", err
	}
	return r.Name, nil
}

func (h policies) Update(_ context.Context, _ string, r resource.Request) error { return h.put(r) }

func (h policies) Delete(_ context.Context, _ string, r resource.Request) error {
	var p policyProperties
	if err := resource.Decode(r.Properties, &p); err != nil {
		return err
	}
	return h.putInline(p.PolicyName, nil, p.Roles, nil)
}

func (policies) Attribute(_ context.Context, id, name string) (any, error) {
	if name != "Id" {
		return nil, fmt.Errorf("no attribute %s", name)
	}
	return id, nil
}
