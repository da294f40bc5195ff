package cloudformation

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// change is what an update would do to a resource.
type change struct {
	Action       string   `json:"action" xml:"Action"` // Add, Modify or Remove
	Logical      string   `json:"logical" xml:"LogicalResourceId"`
	Physical     string   `json:"physical,omitempty" xml:"PhysicalResourceId,omitempty"`
	Type         string   `json:"type" xml:"ResourceType"`
	PolicyAction string   `json:"policyAction,omitempty" xml:"PolicyAction,omitempty"`
	Replacement  string   `json:"replacement,omitempty" xml:"Replacement,omitempty"` // True, False or Conditional
	Scope        []string `json:"scope,omitempty" xml:"Scope>member"`
	Details      []detail `json:"details,omitempty" xml:"Details>member"`
}

type detail struct {
	Attribute  string `json:"attribute" xml:"Target>Attribute"`
	Name       string `json:"name,omitempty" xml:"Target>Name,omitempty"`
	Recreation string `json:"recreation" xml:"Target>RequiresRecreation"` // Never, Always or Conditionally
	Evaluation string `json:"evaluation" xml:"Evaluation"`                // Static or Dynamic
	Source     string `json:"source" xml:"ChangeSource"`
	Cause      string `json:"cause,omitempty" xml:"CausingEntity,omitempty"`
}

// unknown marks what depends on a resource that is about to change.
const unknown = "\x00unknown\x00"

// outlook is a view before anything is done: references to resources that are to be made,
// replaced or changed give what is unknown.
type outlook struct {
	*Stacks
	*view
	st      *stack
	changes map[string]*change
}

// changes are what makes the stack what the view wants it to be, in the order of the logical
// IDs. Some is false when there is nothing to do, not even in outputs.
func (s *Stacks) changes(ctx context.Context, st *stack, v *view) (list []change, some bool, err error) {
	o := outlook{s, v, st, map[string]*change{}}
	s.live(ctx, v, st.ID)
	ref, attribute := v.scope.Ref, v.scope.Attribute
	v.scope.Ref = func(logical string) (any, error) {
		return o.guess(logical, false, func() (any, error) { return ref(logical) })
	}
	v.scope.Attribute = func(logical, name string) (any, error) {
		return o.guess(logical, true, func() (any, error) { return attribute(logical, name) })
	}
	for _, logical := range order(v.Dependencies(v.scope.Conditions)) {
		if err := o.compare(logical); err != nil {
			return nil, false, err
		}
	}
	for logical, h := range st.Resources {
		if !v.exists(logical) && h.Now.ID != "" {
			c := &change{Action: "Remove", Logical: logical, Physical: h.Now.ID, Type: h.Type, PolicyAction: "Delete"}
			if p := h.Now.DeletionPolicy; p == template.Retain || p == template.RetainExceptOnCreate {
				c.PolicyAction = template.Retain
			} else if p == template.Snapshot {
				c.PolicyAction = template.Snapshot
			}
			o.changes[logical] = c
		}
	}
	for _, logical := range slices.Sorted(maps.Keys(o.changes)) {
		list = append(list, *o.changes[logical])
	}
	outputs, err := v.outputs()
	if len(list) == 0 && err != nil {
		return nil, false, query.Invalid("%v", err)
	}
	return list, len(list) > 0 || !maps.Equal(outputs, st.Outputs), nil
}

// order is the nodes, each after those that it depends on.
func order(nodes map[string][]string) []string {
	var list []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(node string) {
		if seen[node] {
			return
		}
		seen[node] = true
		for _, other := range nodes[node] {
			visit(other)
		}
		list = append(list, node)
	}
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		visit(node)
	}
	return list
}

// guess is a reference's value, or unknown when the resource is about to have another.
func (o outlook) guess(logical string, attribute bool, find func() (any, error)) (any, error) {
	if o.unsure(logical, attribute) {
		return unknown, nil
	}
	value, err := find()
	if err != nil {
		return unknown, nil //nolint:nilerr // it is found out when the update is carried out
	}
	return value, nil
}

// compare decides what becomes of one resource.
func (o outlook) compare(logical string) error {
	r, h := o.Resources[logical], o.st.Resources[logical]
	if h != nil && h.Type != r.Type {
		return query.Invalid("Update of resource type is not permitted. The new template modifies resource type of the following resources: [%s]", logical)
	}
	if h == nil || h.Now.ID == "" || h.Status == createFailed {
		o.changes[logical] = &change{Action: "Add", Logical: logical, Type: r.Type}
		return nil
	}
	c := &change{Action: "Modify", Logical: logical, Physical: h.Now.ID, Type: r.Type, Replacement: "False"}
	want := map[string]any{}
	for name, value := range r.Properties {
		resolved, err := o.scope.Resolve(value)
		if err != nil && !o.uncertain(value) {
			return query.Invalid("%v", err)
		}
		if err != nil {
			resolved = unknown
		}
		if resolved != nil {
			want[name] = plain(resolved)
		}
	}
	names := map[string]bool{}
	for _, properties := range []map[string]any{want, h.Now.Properties} {
		for name := range properties {
			names[name] = true
		}
	}
	t, _ := o.typeOf(r.Type)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		o.property(c, t, r, name, want, h.Now.Properties)
	}
	if len(c.Details) > 0 {
		c.Scope = append(c.Scope, "Properties")
	}
	o.rest(c, r, h)
	if len(c.Details) > 0 || strings.HasSuffix(h.Status, "_FAILED") {
		o.changes[logical] = c
	}
	return nil
}

// uncertain tells whether a value depends on a resource that is about to change.
func (o outlook) uncertain(v any) bool {
	for name, attributes := range template.Uses(v, o.scope.Conditions) {
		if slices.ContainsFunc(attributes, func(attribute string) bool { return o.unsure(name, attribute != "") }) {
			return true
		}
	}
	return false
}

// unsure tells whether a resource's Ref, or its attributes, may be others than now.
func (o outlook) unsure(logical string, attribute bool) bool {
	c := o.changes[logical]
	return c != nil && (c.Action == "Add" || attribute || c.Replacement != "False")
}

// property notes a property that changes, or may change.
func (o outlook) property(c *change, t resource.Type, r template.Resource, name string, want, have map[string]any) {
	if alike(want[name], have[name]) {
		return
	}
	d := detail{Attribute: "Properties", Name: name, Recreation: "Never", Evaluation: "Static", Source: "DirectModification"}
	if vague(want[name]) || o.uncertain(r.Properties[name]) {
		d.Evaluation = "Dynamic"
	}
	for _, only := range t.CreateOnly {
		if first, _, _ := strings.Cut(only, "."); first != name || alike(nested(want, only), nested(have, only)) {
			continue
		}
		if vague(nested(want, only)) {
			if d.Recreation == "Never" {
				d.Recreation = "Conditionally"
			}
		} else {
			d.Recreation = "Always"
		}
	}
	switch {
	case d.Recreation == "Always":
		c.Replacement = "True"
	case d.Recreation == "Conditionally" && c.Replacement == "False":
		c.Replacement = "Conditional"
	}
	uses := template.Uses(r.Properties[name], o.scope.Conditions)
	for _, used := range slices.Sorted(maps.Keys(uses)) {
		switch _, isParameter := o.Parameters[used]; {
		case d.Evaluation == "Dynamic" && o.changes[used] != nil && uses[used][0] != "":
			d.Source, d.Cause = "ResourceAttribute", used+"."+uses[used][0]
		case d.Evaluation == "Dynamic" && o.changes[used] != nil:
			d.Source, d.Cause = "ResourceReference", used
		case isParameter && d.Evaluation == "Static" && (o.spec.Parameters[used] != o.st.Spec.Parameters[used] || o.spec.Resolved[used] != o.st.Spec.Resolved[used]):
			d.Source, d.Cause = "ParameterReference", used
		}
	}
	c.Details = append(c.Details, d)
}

// rest notes changes that are not of properties.
func (o outlook) rest(c *change, r template.Resource, h *held) {
	if metadata, err := o.scope.Object(r.Metadata); err != nil || !alike(normal(metadata), h.Now.Metadata) {
		c.Scope = append(c.Scope, "Metadata")
		c.Details = append(c.Details, detail{Attribute: "Metadata", Recreation: "Never", Evaluation: "Static", Source: "DirectModification"})
	}
	if !maps.Equal(o.spec.Tags, h.Now.Tags) {
		c.Scope = append(c.Scope, "Tags")
		c.Details = append(c.Details, detail{Attribute: "Tags", Recreation: "Never", Evaluation: "Static", Source: "DirectModification"})
	}
}

// vague tells whether something in a value is unknown.
func vague(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, unknown)
	case []any:
		return slices.ContainsFunc(v, vague)
	case map[string]any:
		for _, value := range v {
			if vague(value) {
				return true
			}
		}
	}
	return false
}
