package iam

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	version   = "2010-05-08"
	namespace = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// Service is IAM, for reading: what exists is made by stacks. It implements wire.Service.
type Service struct{ Store *Store }

// Name implements wire.Service.
func (Service) Name() string { return "iam" }

// Knows implements wire.Service.
func (Service) Knows(name string) bool { return find(name) != nil }

func find(name string) func(Service, *query.Params) (any, error) {
	switch name {
	case "GetRole":
		return Service.getRole
	case "ListRoles":
		return Service.listRoles
	case "GetInstanceProfile":
		return Service.getProfile
	case "ListInstanceProfiles":
		return Service.listProfiles
	case "ListAttachedRolePolicies":
		return Service.listAttached
	case "ListRolePolicies":
		return Service.listInline
	case "GetRolePolicy":
		return Service.getInline
	}
	return nil
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	do := find(call.Action)
	switch {
	case do == nil:
		return nil, query.Unknown(version, call)
	case call.ByRole():
		return nil, query.Denied("iam", call)
	}
	result, err := do(s, query.Read(call))
	return query.Answer{Action: call.Action, Result: result}, err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	query.Write(w, namespace, id, value, err)
}

const timeFormat = "2006-01-02T15:04:05Z"

type tagItem struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type boundaryItem struct {
	Type string `xml:"PermissionsBoundaryType"`
	ARN  string `xml:"PermissionsBoundaryArn"`
}

type roleItem struct {
	Path        string        `xml:"Path"`
	Name        string        `xml:"RoleName"`
	ID          string        `xml:"RoleId"`
	ARN         string        `xml:"Arn"`
	Created     string        `xml:"CreateDate"`
	Trust       string        `xml:"AssumeRolePolicyDocument"`
	Description string        `xml:"Description,omitempty"`
	MaxSession  int           `xml:"MaxSessionDuration"`
	Boundary    *boundaryItem `xml:"PermissionsBoundary"`
	Tags        []tagItem     `xml:"Tags>member"`
}

// encoded is a policy document as IAM sends it.
func encoded(document any) string {
	if text, ok := document.(string); ok {
		return url.PathEscape(text)
	}
	data, err := json.Marshal(document)
	if err != nil {
		return "" // it came from JSON
	}
	return url.PathEscape(string(data))
}

func (s Service) role(r Role) roleItem {
	arn := s.Store.Plan.IAM("role/" + r.Name)
	item := roleItem{
		Path: "/", Name: r.Name, ID: identity.UniqueID("AROA", arn), ARN: arn, Created: r.Created.UTC().Format(timeFormat),
		Trust: encoded(r.Trust), Description: r.Description, MaxSession: max(r.MaxSession, 3600),
	}
	if r.Boundary != "" {
		item.Boundary = &boundaryItem{"Policy", r.Boundary}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Tags)) {
		item.Tags = append(item.Tags, tagItem{key, r.Tags[key]})
	}
	return item
}

// named reads which role is meant.
func (s Service) named(p *query.Params) (Role, error) {
	name := p.Required("RoleName")
	if err := p.Done(); err != nil {
		return Role{}, err
	}
	r, ok := s.Store.look().Roles[name]
	if !ok {
		return r, missing("role", name)
	}
	return r, nil
}

type oneRole struct {
	Role roleItem `xml:"Role"`
}

func (s Service) getRole(p *query.Params) (any, error) {
	r, err := s.named(p)
	if err != nil {
		return nil, err
	}
	return oneRole{s.role(r)}, nil
}

type manyRoles struct {
	Truncated bool       `xml:"IsTruncated"`
	Roles     []roleItem `xml:"Roles>member"`
}

func (s Service) listRoles(p *query.Params) (any, error) {
	p.OneOf("PathPrefix", "/", "/")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var list manyRoles
	all := s.Store.look().Roles
	for _, name := range slices.Sorted(maps.Keys(all)) {
		item := s.role(all[name])
		item.Tags, item.Boundary = nil, nil // as on AWS, lists leave them out
		list.Roles = append(list.Roles, item)
	}
	return list, nil
}

type profileItem struct {
	Path    string     `xml:"Path"`
	Name    string     `xml:"InstanceProfileName"`
	ID      string     `xml:"InstanceProfileId"`
	ARN     string     `xml:"Arn"`
	Created string     `xml:"CreateDate"`
	Roles   []roleItem `xml:"Roles>member"`
}

func (s Service) profile(p Profile) profileItem {
	arn := s.Store.Plan.IAM("instance-profile/" + p.Name)
	item := profileItem{Path: "/", Name: p.Name, ID: identity.UniqueID("AIPA", arn), ARN: arn, Created: p.Created.UTC().Format(timeFormat)}
	if r, ok := s.Store.look().Roles[p.Role]; ok {
		item.Roles = []roleItem{s.role(r)}
	}
	return item
}

type oneProfile struct {
	Profile profileItem `xml:"InstanceProfile"`
}

func (s Service) getProfile(p *query.Params) (any, error) {
	name := p.Required("InstanceProfileName")
	if err := p.Done(); err != nil {
		return nil, err
	}
	found, ok := s.Store.look().Profiles[name]
	if !ok {
		err := query.Refuse("NoSuchEntity", "Instance Profile %s cannot be found.", name)
		err.Status = http.StatusNotFound
		return nil, err
	}
	return oneProfile{s.profile(found)}, nil
}

type manyProfiles struct {
	Truncated bool          `xml:"IsTruncated"`
	Profiles  []profileItem `xml:"InstanceProfiles>member"`
}

func (s Service) listProfiles(p *query.Params) (any, error) {
	p.OneOf("PathPrefix", "/", "/")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var list manyProfiles
	all := s.Store.look().Profiles
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list.Profiles = append(list.Profiles, s.profile(all[name]))
	}
	return list, nil
}

type attached struct {
	Truncated bool           `xml:"IsTruncated"`
	Policies  []attachedItem `xml:"AttachedPolicies>member"`
}

type attachedItem struct {
	Name string `xml:"PolicyName"`
	ARN  string `xml:"PolicyArn"`
}

func (s Service) listAttached(p *query.Params) (any, error) {
	r, err := s.named(p)
	if err != nil {
		return nil, err
	}
	var list attached
	for _, arn := range r.Managed {
		list.Policies = append(list.Policies, attachedItem{path.Base(arn), arn})
	}
	return list, nil
}

type inlineNames struct {
	Truncated bool     `xml:"IsTruncated"`
	Names     []string `xml:"PolicyNames>member"`
}

func (s Service) listInline(p *query.Params) (any, error) {
	r, err := s.named(p)
	if err != nil {
		return nil, err
	}
	return inlineNames{Names: slices.Sorted(maps.Keys(r.Inline))}, nil
}

type inlineItem struct {
	Role     string `xml:"RoleName"`
	Name     string `xml:"PolicyName"`
	Document string `xml:"PolicyDocument"`
}

func (s Service) getInline(p *query.Params) (any, error) {
	name := p.Required("PolicyName")
	r, err := s.named(p)
	if err != nil {
		return nil, err
	}
	document, ok := r.Inline[name]
	if !ok {
		return nil, missing("role policy", name)
	}
	return inlineItem{r.Name, name, encoded(document)}, nil
}
