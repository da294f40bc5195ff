package cloudformation

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// read parses a template and finds what is wrong with it whatever its parameters are.
func (s *Stacks) read(body string) (*template.Template, error) {
	t, err := template.Parse(body)
	if err == nil {
		err = s.inspect(t)
	}
	if err != nil {
		return nil, query.Invalid("%v", err)
	}
	return t, nil
}

// inspect holds a template to the resource types that there are.
func (s *Stacks) inspect(t *template.Template) error {
	var unknown []string
	for _, r := range t.Resources {
		if _, ok := s.typeOf(r.Type); !ok && !slices.Contains(unknown, r.Type) {
			unknown = append(unknown, r.Type)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("Template format error: Unrecognized resource types: [%s]", strings.Join(unknown, ", ")) //nolint:staticcheck // CloudFormation's words
	}
	if err := t.Check(s.supports); err != nil {
		return err
	}
	for _, logical := range slices.Sorted(maps.Keys(t.Resources)) {
		if err := s.inspectResource(t.Resources[logical]); err != nil {
			return fmt.Errorf("resource %s (line %d): %w", logical, t.Line("/Resources/"+logical), err)
		}
	}
	return nil
}

// creation is the attribute CreationPolicy.
type creation struct {
	ResourceSignal *struct {
		Count   int
		Timeout string
	}
	AutoScalingCreationPolicy *struct{ MinSuccessfulInstancesPercent int }
}

func (s *Stacks) inspectResource(r template.Resource) error {
	t, _ := s.typeOf(r.Type)
	_, canSnapshot := t.Handler.(resource.Snapshotter)
	if (r.DeletionPolicy == template.Snapshot || r.UpdateReplacePolicy == template.Snapshot) && !canSnapshot {
		return fmt.Errorf("the lab does not support the policy Snapshot for the type %s", r.Type)
	}
	for _, then := range []bool{true, false} {
		properties, _ := prune(r.Properties, then).(map[string]any)
		if err := check(t, properties); err != nil {
			return err
		}
		if err := decode(r.CreationPolicy, then, &creation{}); err != nil {
			return fmt.Errorf("CreationPolicy: %w", err)
		}
		if err := decode(r.UpdatePolicy, then, &resource.UpdatePolicy{}); err != nil {
			return fmt.Errorf("UpdatePolicy: %w", err)
		}
	}
	return nil
}

func decode(v map[string]any, then bool, out any) error {
	object, ok := prune(v, then).(map[string]any)
	if !ok || len(object) == 0 {
		return nil
	}
	return resource.Decode(object, out)
}

// prune takes functions out of a value, so that what is left can be read: nil stands for
// what they give, but for Fn::If, of which one of the branches is taken.
func prune(v any, then bool) any {
	if name, arg, ok := template.Call(v); ok {
		list, _ := arg.([]any)
		switch {
		case name != "Fn::If" || len(list) != 3:
			return nil
		case then:
			return prune(list[1], then)
		}
		return prune(list[2], then)
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			if !omitted(value, then) {
				out[key] = prune(value, then)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = prune(value, then)
		}
		return out
	case string:
		if strings.Contains(v, "{{resolve:") {
			return nil
		}
	}
	return v
}

// omitted tells whether a value is AWS::NoValue, in the branch of Fn::If that is taken.
func omitted(v any, then bool) bool {
	name, arg, _ := template.Call(v)
	list, _ := arg.([]any)
	switch {
	case name != "Fn::If" || len(list) != 3:
		return name == "Ref" && arg == "AWS::NoValue"
	case then:
		return omitted(list[1], then)
	}
	return omitted(list[2], then)
}

// check holds properties to their type.
func check(t resource.Type, properties map[string]any) error {
	for _, name := range t.Required {
		if _, ok := properties[name]; !ok {
			return fmt.Errorf("Property %s cannot be empty.", name) //nolint:staticcheck // CloudFormation's words
		}
	}
	if properties == nil {
		return nil
	}
	return resource.Decode(properties, reflect.New(reflect.TypeOf(t.Properties).Elem()).Interface())
}

// accept makes a spec of a request: the template with its parameters, all of it checked.
// Nothing is made yet.
func (s *Stacks) accept(st *stack, sp spec) (spec, *view, error) {
	t, err := s.read(sp.Body)
	if err != nil {
		return sp, nil, err
	}
	if sp.Parameters, err = t.Given(sp.Parameters); err != nil {
		return sp, nil, query.Invalid("%v", err)
	}
	if err := s.resolve(t, &sp); err != nil {
		return sp, nil, err
	}
	if err := capable(t, sp.Capabilities); err != nil {
		return sp, nil, err
	}
	v, err := s.view(st, sp)
	if err == nil {
		err = t.Unresolved(v.scope.Conditions)
	}
	if err == nil {
		err = v.scope.Check()
	}
	if err != nil {
		return sp, nil, query.Invalid("%v", err)
	}
	return sp, v, nil
}

// resolve finds the values of parameters that stand in SSM, and refuses those that name what
// is not there.
func (s *Stacks) resolve(t *template.Template, sp *spec) error {
	sp.Resolved = map[string]string{}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		p, value := t.Parameters[name], sp.Parameters[name]
		if p.SSM() {
			found, ok := "", false
			if s.Parameter != nil {
				found, ok = s.Parameter(value)
			}
			if !ok {
				missing = append(missing, value)
				continue
			}
			sp.Resolved[name], value = found, found
			bare := template.Parameter{Type: p.Kind()} // the constraints were those of the name
			if err := bare.Check(name, value); err != nil {
				return query.Invalid("%v", err)
			}
		}
		kind, isList := p.List()
		values := []any{value}
		if isList {
			values, _ = p.Value(value).([]any)
		} else {
			kind = p.Kind()
		}
		for _, v := range values {
			if s.Exists != nil && strings.HasPrefix(kind, "AWS::EC2::") && !s.Exists(kind, fmt.Sprint(v)) {
				return query.Invalid("Parameter validation failed: parameter value %v for parameter name %s does not exist", v, name)
			}
		}
	}
	if len(missing) > 0 {
		return query.Invalid("Unable to fetch parameters [%s] from parameter store for this account.", strings.Join(missing, ","))
	}
	return nil
}

// iamTypes need a capability, with the property that names one of the kind.
var iamTypes = map[string]string{
	"AWS::IAM::AccessKey": "", "AWS::IAM::Group": "GroupName", "AWS::IAM::InstanceProfile": "InstanceProfileName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
	"AWS::IAM::Policy": "", "AWS::IAM::Role": "RoleName", "AWS::IAM::User": "UserName", "AWS::IAM::UserToGroupAddition": "",
}

// capabilities are those that a template needs, and why.
func capabilities(t *template.Template) (needed []string, reason string) {
	var kinds []string
	named := false
	for _, r := range t.Resources {
		property, ok := iamTypes[r.Type]
		if !ok {
			continue
		}
		if !slices.Contains(kinds, r.Type) {
			kinds = append(kinds, r.Type)
		}
		_, given := r.Properties[property]
		named = named || given && property != ""
	}
	slices.Sort(kinds)
	reason = "The following resource(s) require capabilities: [" + strings.Join(kinds, ", ") + "]"
	switch {
	case named:
		return []string{"CAPABILITY_NAMED_IAM"}, reason
	case len(kinds) > 0:
		return []string{"CAPABILITY_IAM"}, reason
	}
	return nil, ""
}

func capable(t *template.Template, given []string) error {
	needed, _ := capabilities(t)
	if len(needed) == 0 || slices.Contains(given, needed[0]) || needed[0] == "CAPABILITY_IAM" && slices.Contains(given, "CAPABILITY_NAMED_IAM") {
		return nil
	}
	return query.Refuse("InsufficientCapabilitiesException", "Requires capabilities : %v", needed)
}

// encode is a value as JSON.
func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return "" // it came from JSON or YAML
	}
	return string(data)
}
