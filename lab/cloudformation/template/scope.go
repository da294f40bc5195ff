package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// NoValue is what Ref of AWS::NoValue gives. Resolve drops members and elements that are it.
type noValue struct{}

// Scope is what a template's values are evaluated in. References to what it does not have
// are errors.
type Scope struct {
	Template *Template
	// Parameters are resolved: strings, or lists of strings. Pseudo are the pseudo parameters,
	// such as AWS::Region.
	Parameters, Pseudo map[string]any
	// Conditions are the template's, as Evaluate gives them.
	Conditions map[string]bool
	// Ref and Attribute are of resources; nil: there are none here.
	Ref       func(resource string) (any, error)
	Attribute func(resource, name string) (any, error)
	// Import finds an export, Dynamic what {{resolve:SERVICE:KEY}} stands for, Zones the
	// availability zones of a region.
	Import  func(name string) (string, error)
	Dynamic func(service, key string) (string, error)
	Zones   func(region string) []string
	// ValueOf is an attribute of what a parameter's value names, for rules.
	ValueOf func(kind, value, attribute string) (string, error)
}

// Evaluate decides the template's conditions.
func (s *Scope) Evaluate() (map[string]bool, error) {
	s.Conditions = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Template.Conditions)) {
		if _, err := s.named(name, nil); err != nil {
			return nil, err
		}
	}
	return s.Conditions, nil
}

// named decides a condition by its name; within are the ones that are being decided.
func (s *Scope) named(name string, within []string) (bool, error) {
	if value, ok := s.Conditions[name]; ok {
		return value, nil
	}
	v, ok := s.Template.Conditions[name]
	switch {
	case !ok:
		return false, fmt.Errorf("Template error: unresolved condition dependency %s", name) //nolint:staticcheck // CloudFormation's words
	case slices.Contains(within, name):
		return false, fmt.Errorf("Template error: Found circular condition dependency between %s", strings.Join(append(within, name), " and ")) //nolint:staticcheck // the same
	}
	value, err := s.holds(v, append(within, name))
	if err != nil {
		return false, err
	}
	s.Conditions[name] = value
	return value, nil
}

// holds decides a condition.
func (s *Scope) holds(v any, within []string) (bool, error) {
	name, arg, ok := Call(v)
	if !ok {
		object, _ := v.(map[string]any)
		if other, named := object["Condition"].(string); named && len(object) == 1 {
			return s.named(other, within)
		}
		if text, scalar := Text(v); scalar && (text == "true" || text == "false") {
			return text == "true", nil
		}
		return false, fmt.Errorf("Template error: every condition must be a function or a condition's name, not %v", v) //nolint:staticcheck // CloudFormation's words
	}
	list, _ := arg.([]any)
	switch name {
	case "Fn::And", "Fn::Or":
		for _, operand := range list {
			value, err := s.holds(operand, within)
			if err != nil || value == (name == "Fn::Or") {
				return value, err
			}
		}
		return name == "Fn::And", nil
	case "Fn::Not":
		value, err := s.holds(list[0], within)
		return !value, err
	case "Fn::Equals":
		resolved, err := s.all(list)
		return err == nil && same(resolved[0], resolved[1]), err
	case "Fn::If":
		chosen, err := s.choose(list, within)
		if err != nil {
			return false, err
		}
		return s.holds(chosen, within)
	case "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn":
		return s.membership(name, list)
	}
	return false, fmt.Errorf("Template error: %s is no condition", name) //nolint:staticcheck // CloudFormation's words
}

// choose is the branch of Fn::If that is taken.
func (s *Scope) choose(list []any, within []string) (any, error) {
	condition, _ := list[0].(string)
	value, err := s.named(condition, within)
	if err != nil {
		return nil, err
	}
	if value {
		return list[1], nil
	}
	return list[2], nil
}

// membership decides a function of rules.
func (s *Scope) membership(name string, list []any) (bool, error) {
	resolved, err := s.all(list)
	if err != nil {
		return false, err
	}
	left, isList := resolved[0].([]any)
	if !isList {
		return false, fmt.Errorf("Template error: %s needs a list of strings", name) //nolint:staticcheck // CloudFormation's words
	}
	if name == "Fn::Contains" {
		return slices.ContainsFunc(left, func(v any) bool { return same(v, resolved[1]) }), nil
	}
	in := []any{resolved[1]}
	if right, ok := resolved[1].([]any); ok && name == "Fn::EachMemberIn" {
		in = right
	}
	for _, v := range left {
		if !slices.ContainsFunc(in, func(other any) bool { return same(v, other) }) {
			return false, nil
		}
	}
	return true, nil
}

// same compares as CloudFormation does: true and "true" are equal.
func same(a, b any) bool {
	one, ok := Text(a)
	two, also := Text(b)
	if ok && also {
		return one == two
	}
	left, ok := a.([]any)
	right, also := b.([]any)
	return ok && also && slices.EqualFunc(left, right, same)
}

// Check decides the rules; an error is the description of the first assertion that does not
// hold.
func (s *Scope) Check() error {
	for _, name := range slices.Sorted(maps.Keys(s.Template.Rules)) {
		rule := s.Template.Rules[name]
		if rule.Condition != nil {
			if applies, err := s.holds(rule.Condition, nil); err != nil {
				return err
			} else if !applies {
				continue
			}
		}
		for i, a := range rule.Assertions {
			holds, err := s.holds(a.Assert, nil)
			switch {
			case err != nil:
				return err
			case !holds && a.Description != "":
				return fmt.Errorf("Rules validation failed: rule %s: %s", name, strings.TrimSpace(a.Description)) //nolint:staticcheck // CloudFormation's style
			case !holds:
				return fmt.Errorf("Rules validation failed: rule %s: assertion %d does not hold", name, i+1) //nolint:staticcheck // CloudFormation's style
			}
		}
	}
	return nil
}

// Call reads a value as a call of a function.
func Call(v any) (name string, arg any, ok bool) {
	object, isObject := v.(map[string]any)
	if !isObject || len(object) != 1 {
		return "", nil, false
	}
	for name, arg := range object {
		if name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return name, arg, true
		}
	}
	return "", nil, false
}
