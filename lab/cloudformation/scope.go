package cloudformation

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
)

// view is a template as a stack has it, or is to have it: with its parameters and its
// conditions.
type view struct {
	*template.Template
	scope *template.Scope
	spec  spec
}

// view reads a spec for a stack. Resources are not to be referred to yet.
func (s *Stacks) view(st *stack, sp spec) (*view, error) {
	t, err := sp.template()
	if err != nil {
		return nil, err
	}
	scope := &template.Scope{
		Template: t, Parameters: map[string]any{}, Pseudo: s.pseudo(st),
		Import: s.imported, Dynamic: s.dynamic, ValueOf: s.ValueOf,
		Zones: func(region string) []string {
			var zones []string
			for _, subnet := range s.Plan.In(region).Subnets {
				if !slices.Contains(zones, subnet.Zone) {
					zones = append(zones, subnet.Zone)
				}
			}
			return zones
		},
	}
	for name, p := range t.Parameters {
		value := sp.Parameters[name]
		if p.SSM() {
			value = sp.Resolved[name]
		}
		scope.Parameters[name] = p.Value(value)
	}
	if _, err := scope.Evaluate(); err != nil {
		return nil, err
	}
	return &view{Template: t, scope: scope, spec: sp}, nil
}

func (s *Stacks) pseudo(st *stack) map[string]any {
	return map[string]any{
		"AWS::AccountId": s.Plan.Account, "AWS::Partition": s.Plan.Partition, "AWS::Region": s.Plan.Region, "AWS::URLSuffix": "amazonaws.com",
		"AWS::StackId": st.ID, "AWS::StackName": st.Name, "AWS::NotificationARNs": []any{},
	}
}

// exists tells whether the resource is one under the view's conditions.
func (v *view) exists(logical string) bool { return v.Exists(logical, v.scope.Conditions) }

// dynamic is what {{resolve:ssm:NAME}} stands for.
func (s *Stacks) dynamic(service, key string) (string, error) {
	name, version, hasVersion := strings.Cut(key, ":")
	switch {
	case service != "ssm":
		return "", fmt.Errorf("the lab does not support dynamic references to %s", service)
	case hasVersion:
		return "", fmt.Errorf("the lab keeps the newest version of a parameter only: refer to %s without version %s", name, version)
	case s.Parameter != nil:
		if value, ok := s.Parameter(name); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("Parameters: [ssm:%s] cannot be found.", key) //nolint:staticcheck // CloudFormation's words
}

// live makes the view's references those to the stack's resources as they are.
func (s *Stacks) live(ctx context.Context, v *view, id string) {
	lookup := func(logical string) (resource.Type, string, error) {
		st, err := s.get(id)
		if err != nil {
			return resource.Type{}, "", err
		}
		h := st.Resources[logical]
		if h == nil || h.Now.ID == "" {
			return resource.Type{}, "", fmt.Errorf("Template format error: Unresolved resource dependencies [%s] in the Resources block of the template", logical) //nolint:staticcheck // CloudFormation's words
		}
		t, _ := s.typeOf(h.Type)
		return t, h.Now.ID, nil
	}
	v.scope.Ref = func(logical string) (any, error) {
		t, id, err := lookup(logical)
		if err != nil {
			return nil, err
		}
		return t.Handler.Ref(id), nil
	}
	v.scope.Attribute = func(logical, name string) (any, error) {
		t, id, err := lookup(logical)
		if err != nil {
			return nil, err
		}
		value, err := t.Handler.Attribute(ctx, id, name)
		if err != nil {
			return nil, fmt.Errorf("attribute %s of %s: %w", name, logical, err)
		}
		if list, ok := value.([]string); ok {
			values := []any{}
			for _, text := range list {
				values = append(values, text)
			}
			return values, nil
		}
		return value, nil
	}
}

// wanted is a resource as the view has it. Its ID and birth are for the caller.
func (v *view) wanted(logical string) (*made, error) {
	r := v.Resources[logical]
	m := &made{DeletionPolicy: r.DeletionPolicy, UpdateReplacePolicy: r.UpdateReplacePolicy, Tags: v.spec.Tags}
	if len(m.Tags) == 0 {
		m.Tags = nil
	}
	for value, into := range map[*map[string]any]*map[string]any{
		&r.Properties: &m.Properties, &r.Metadata: &m.Metadata, &r.CreationPolicy: &m.CreationPolicy, &r.UpdatePolicy: &m.UpdatePolicy,
	} {
		resolved, err := v.scope.Object(*value)
		if err != nil {
			return nil, err
		}
		*into = normal(resolved)
	}
	if on := v.Dependencies(v.scope.Conditions)[logical]; len(on) > 0 {
		m.DependsOn = on
	}
	return m, nil
}

// normal is an object as the record gives it back: numbers are float64s, and nothing is
// empty.
func normal(object map[string]any) map[string]any {
	if len(object) == 0 {
		return nil
	}
	out, _ := plain(object).(map[string]any)
	return out
}

func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = plain(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = plain(value)
		}
		return out
	case int:
		return float64(v)
	}
	return v
}

// alike compares values as a handler would read them: a number and its text are equal.
func alike(a, b any) bool {
	one, ok := template.Text(a)
	two, also := template.Text(b)
	if ok && also {
		return one == two
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, alike)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, alike)
	}
	return reflect.DeepEqual(a, b)
}

// imported finds an export.
func (s *Stacks) imported(name string) (string, error) {
	for _, st := range s.all() {
		for _, o := range st.Outputs {
			if o.Export == name && st.Status != deleteComplete {
				return o.Value, nil
			}
		}
	}
	return "", fmt.Errorf("No export named %s found.", name) //nolint:staticcheck // CloudFormation's words
}

// imports are the names of the exports that the view needs.
func (v *view) imports() ([]string, error) {
	var names []string
	var collect func(value any) error
	collect = func(value any) error {
		switch value := value.(type) {
		case []any:
			for _, element := range value {
				if err := collect(element); err != nil {
					return err
				}
			}
		case map[string]any:
			name, arg, ok := template.Call(value)
			switch list, _ := arg.([]any); {
			case ok && name == "Fn::ImportValue":
				resolved, err := v.scope.Resolve(arg)
				if err != nil {
					return err
				}
				names = append(names, fmt.Sprint(resolved))
				return nil
			case ok && name == "Fn::If" && len(list) == 3:
				taken := 2
				if v.scope.Conditions[fmt.Sprint(list[0])] {
					taken = 1
				}
				return collect(list[taken])
			}
			for _, element := range value {
				if err := collect(element); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for logical, r := range v.Resources {
		if v.exists(logical) {
			if err := collect(r.Properties); err != nil {
				return nil, err
			}
		}
	}
	for _, o := range v.Outputs {
		if o.Condition == "" || v.scope.Conditions[o.Condition] {
			if err := collect(o.Value); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// outputs evaluates the view's outputs.
func (v *view) outputs() (map[string]output, error) {
	all := map[string]output{}
	for name, o := range v.Outputs {
		if o.Condition != "" && !v.scope.Conditions[o.Condition] {
			continue
		}
		value, err := v.scope.Resolve(o.Value)
		if err != nil {
			return nil, err
		}
		text, ok := template.Text(value)
		if !ok {
			return nil, fmt.Errorf("Template format error: The Value field of every Outputs member must evaluate to a String (output %s).", name) //nolint:staticcheck // CloudFormation's words
		}
		out := output{Description: o.Description, Value: text}
		if o.Export != nil {
			export, err := v.scope.Resolve(o.Export)
			if err != nil {
				return nil, err
			}
			if out.Export, ok = template.Text(export); !ok || out.Export == "" {
				return nil, fmt.Errorf("Template format error: Output %s is malformed. The Name field of every Export member must be specified and consist only of alphanumeric characters, colons, or hyphens.", name) //nolint:staticcheck // CloudFormation's words
			}
		}
		all[name] = out
	}
	return all, nil
}

// exportable finds exports that another stack has already, and those that are in use and
// would go or change.
func (s *Stacks) exportable(st *stack, after map[string]output) error {
	values := map[string]string{}
	for _, o := range after {
		if o.Export == "" {
			continue
		}
		if _, ok := values[o.Export]; ok {
			return fmt.Errorf("Duplicate Export names. More than one output has %s", o.Export) //nolint:staticcheck // CloudFormation's words
		}
		values[o.Export] = o.Value
		for _, other := range s.all() {
			for _, theirs := range other.Outputs {
				if other.ID != st.ID && theirs.Export == o.Export {
					return fmt.Errorf("Export with name %s is already exported by stack %s", o.Export, other.Name) //nolint:staticcheck // the same
				}
			}
		}
	}
	for _, o := range st.Outputs {
		value, stays := values[o.Export]
		by := s.importers(o.Export)
		switch {
		case o.Export == "" || stays && value == o.Value || len(by) == 0:
		case stays:
			return fmt.Errorf("Export %s cannot be updated as it is in use by %s", o.Export, strings.Join(by, " and ")) //nolint:staticcheck // the same
		default:
			return fmt.Errorf("Export %s cannot be deleted as it is in use by %s", o.Export, strings.Join(by, " and ")) //nolint:staticcheck // the same
		}
	}
	return nil
}

// importers are the names of the stacks that use an export.
func (s *Stacks) importers(export string) []string {
	var names []string
	for _, st := range s.all() {
		if slices.Contains(st.Imports, export) && st.Status != deleteComplete {
			names = append(names, st.Name)
		}
	}
	slices.Sort(names)
	return names
}

// integer is a number that a policy gives, as a number or as text.
func integer(v any, otherwise int) (int, error) {
	if v == nil {
		return otherwise, nil
	}
	text, _ := template.Text(v)
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, not %v", v)
	}
	return n, nil
}
