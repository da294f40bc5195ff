package template

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Resolve evaluates a value: no function is left in what it answers. Members and elements
// that are AWS::NoValue are left out; the value itself is then nil.
func (s *Scope) Resolve(v any) (any, error) {
	resolved, err := s.resolve(v)
	if _, none := resolved.(noValue); none {
		return nil, err
	}
	return resolved, err
}

// Object evaluates an object, nil for nil.
func (s *Scope) Object(v map[string]any) (map[string]any, error) {
	if v == nil {
		return nil, nil
	}
	resolved, err := s.Resolve(v)
	if err != nil {
		return nil, err
	}
	object, ok := resolved.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("Template format error: want an object, not %v", resolved) //nolint:staticcheck // CloudFormation's words
	}
	return object, nil
}

func (s *Scope) resolve(v any) (any, error) {
	if name, arg, ok := Call(v); ok {
		return s.call(name, arg)
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			resolved, err := s.resolve(value)
			if err != nil {
				return nil, err
			}
			if _, none := resolved.(noValue); !none {
				out[key] = resolved
			}
		}
		return out, nil
	case []any:
		return s.all(v)
	case string:
		return s.dynamic(v)
	}
	return v, nil
}

// all evaluates the elements of a list.
func (s *Scope) all(list []any) ([]any, error) {
	out := make([]any, 0, len(list))
	for _, v := range list {
		resolved, err := s.resolve(v)
		if err != nil {
			return nil, err
		}
		if _, none := resolved.(noValue); !none {
			out = append(out, resolved)
		}
	}
	return out, nil
}

// reference is a dynamic one: {{resolve:SERVICE:KEY}}.
var reference = regexp.MustCompile(`\{\{resolve:([^:{}]+):([^{}]+)\}\}`)

// dynamic puts values in the place of dynamic references.
func (s *Scope) dynamic(text string) (any, error) {
	if s.Dynamic == nil || !strings.Contains(text, "{{resolve:") {
		return text, nil
	}
	var failed error
	out := reference.ReplaceAllStringFunc(text, func(found string) string {
		m := reference.FindStringSubmatch(found)
		value, err := s.Dynamic(m[1], m[2])
		failed = errors.Join(failed, err)
		return value
	})
	return out, failed
}

// call evaluates a function, whose argument Template.Check has seen to.
func (s *Scope) call(name string, arg any) (any, error) {
	switch name {
	case "Ref":
		return s.ref(fmt.Sprint(arg))
	case "Fn::GetAtt":
		target, attribute, err := GetAtt(arg)
		if err != nil {
			return nil, err
		}
		return s.attribute(target, attribute)
	case "Fn::Sub":
		return s.sub(arg)
	case "Fn::If":
		list, _ := arg.([]any)
		chosen, err := s.choose(list, nil)
		if err != nil {
			return nil, err
		}
		return s.resolve(chosen)
	case "Fn::RefAll":
		return s.refAll(fmt.Sprint(arg)), nil
	case "Fn::ValueOf", "Fn::ValueOfAll":
		return s.valueOf(name, arg)
	case "Fn::And", "Fn::Or", "Fn::Not", "Fn::Equals", "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn":
		return s.holds(map[string]any{name: arg}, nil)
	}
	resolved, err := s.resolve(arg)
	if err != nil {
		return nil, err
	}
	switch name {
	case "Fn::Base64":
		text, err := wantText(name, resolved)
		return base64.StdEncoding.EncodeToString([]byte(text)), err
	case "Fn::GetAZs":
		return s.zones(resolved)
	case "Fn::ImportValue":
		text, err := wantText(name, resolved)
		if err != nil {
			return nil, err
		}
		return s.Import(text)
	}
	list, ok := resolved.([]any)
	if !ok {
		return nil, fmt.Errorf("Template error: %s needs a list", name) //nolint:staticcheck // CloudFormation's words
	}
	switch name {
	case "Fn::Join":
		return join(list)
	case "Fn::Select":
		return selectOne(list)
	case "Fn::Split":
		return split(list)
	case "Fn::FindInMap":
		return s.find(list)
	case "Fn::Cidr":
		return cidr(list)
	}
	return nil, fmt.Errorf("Template error: the lab does not support the function %s", name) //nolint:staticcheck // CloudFormation's style
}

func wantText(name string, v any) (string, error) {
	text, ok := Text(v)
	if !ok {
		return "", fmt.Errorf("Template error: every %s object must have a String-typed value.", name) //nolint:staticcheck // CloudFormation's words
	}
	return text, nil
}

func (s *Scope) ref(name string) (any, error) {
	if name == "AWS::NoValue" {
		return noValue{}, nil
	}
	if v, ok := s.Pseudo[name]; ok {
		return v, nil
	}
	if v, ok := s.Parameters[name]; ok {
		return v, nil
	}
	if s.Ref == nil {
		return nil, fmt.Errorf("Template format error: Unresolved dependencies [%s]. Cannot reference resources here", name) //nolint:staticcheck // CloudFormation's words
	}
	return s.Ref(name)
}

func (s *Scope) attribute(resource, name string) (any, error) {
	if s.Attribute == nil {
		return nil, fmt.Errorf("Template error: Fn::GetAtt of %s cannot be used here", resource) //nolint:staticcheck // CloudFormation's style
	}
	return s.Attribute(resource, name)
}

// GetAtt splits the argument of Fn::GetAtt.
func GetAtt(arg any) (resource, attribute string, err error) {
	switch arg := arg.(type) {
	case string:
		resource, attribute, _ = strings.Cut(arg, ".")
	case []any:
		var parts []string
		for _, v := range arg {
			text, _ := v.(string)
			parts = append(parts, text)
		}
		if len(parts) > 1 {
			resource, attribute = parts[0], strings.Join(parts[1:], ".")
		}
	}
	if resource == "" || attribute == "" {
		return "", "", errors.New("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute") //nolint:staticcheck // CloudFormation's words
	}
	return resource, attribute, nil
}

// variable is one of Fn::Sub; one that starts with an exclamation mark is text.
var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

func (s *Scope) sub(arg any) (any, error) {
	text, own, err := Sub(arg)
	if err != nil {
		return nil, err
	}
	var failed error
	out := variable.ReplaceAllStringFunc(text, func(found string) string {
		name := strings.TrimSpace(found[2 : len(found)-1])
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		var v any
		var err error
		resource, attribute, dotted := strings.Cut(name, ".")
		given, isOwn := own[name]
		switch {
		case isOwn:
			v, err = s.resolve(given)
		case dotted:
			v, err = s.attribute(resource, attribute)
		default:
			v, err = s.ref(name)
		}
		value, ok := Text(v)
		if err == nil && !ok {
			err = fmt.Errorf("Template error: variable %s in Fn::Sub expression does not resolve to a string", name) //nolint:staticcheck // CloudFormation's words
		}
		failed = errors.Join(failed, err)
		return value
	})
	if failed != nil {
		return nil, failed
	}
	return s.dynamic(out)
}

// Sub splits the argument of Fn::Sub.
func Sub(arg any) (text string, own map[string]any, err error) {
	if text, ok := arg.(string); ok {
		return text, nil, nil
	}
	list, _ := arg.([]any)
	if len(list) == 2 {
		text, isText := list[0].(string)
		own, isObject := list[1].(map[string]any)
		if isText && isObject {
			return text, own, nil
		}
	}
	return "", nil, errors.New("Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as first argument, and an optional second argument to specify a mapping of values to replace in the string") //nolint:staticcheck // CloudFormation's words
}

func (s *Scope) find(list []any) (any, error) {
	var keys []string
	for _, v := range list {
		text, _ := Text(v)
		keys = append(keys, text)
	}
	if len(keys) != 3 {
		return nil, errors.New("Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the attribute for return value") //nolint:staticcheck // CloudFormation's words
	}
	value, ok := s.Template.Mappings[keys[0]][keys[1]][keys[2]]
	if !ok {
		return nil, fmt.Errorf("Template error: Unable to get mapping for %s", strings.Join(keys, "::")) //nolint:staticcheck // CloudFormation's words
	}
	return value, nil
}

func (s *Scope) zones(v any) (any, error) {
	region, err := wantText("Fn::GetAZs", v)
	if err != nil {
		return nil, err
	}
	if region == "" {
		region = fmt.Sprint(s.Pseudo["AWS::Region"])
	}
	list := []any{}
	for _, zone := range s.Zones(region) {
		list = append(list, zone)
	}
	return list, nil
}

// refAll is the values of all parameters of a type.
func (s *Scope) refAll(kind string) []any {
	all := []any{}
	for name, p := range s.Template.Parameters {
		if p.Type != kind && p.Type != "List<"+kind+">" {
			continue
		}
		switch v := s.Parameters[name].(type) {
		case []any:
			all = append(all, v...)
		default:
			all = append(all, v)
		}
	}
	return all
}

// valueOf is an attribute of what the value of a parameter, or of all of a type, names.
func (s *Scope) valueOf(function string, arg any) (any, error) {
	list, _ := arg.([]any)
	name, attribute := fmt.Sprint(list[0]), fmt.Sprint(list[1])
	kind, values, single := name, []any(nil), false
	if function == "Fn::ValueOfAll" {
		values = s.refAll(name)
	} else {
		kind = strings.TrimSuffix(strings.TrimPrefix(s.Template.Parameters[name].Type, "List<"), ">")
		if values, single = s.Parameters[name].([]any); !single {
			values = []any{s.Parameters[name]}
		}
		single = !single
	}
	if s.ValueOf == nil {
		return nil, fmt.Errorf("Template error: the lab does not support the function %s here", function) //nolint:staticcheck // CloudFormation's style
	}
	out := []any{}
	for _, v := range values {
		text, _ := Text(v)
		value, err := s.ValueOf(kind, text, attribute)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	if single {
		return out[0], nil
	}
	return out, nil
}
