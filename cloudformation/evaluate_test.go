package cloudformation_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/cloudformation/template"
)

// pseudo are the pseudo parameters of a stack in the tests.
var pseudo = map[string]any{
	"AWS::AccountId": "111122223333", "AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::URLSuffix": "amazonaws.com",
	"AWS::StackName": "workers", "AWS::StackId": "arn:aws:cloudformation:eu-central-1:111122223333:stack/workers/5ac4ba2c-94b0-4a4c-8a2c-0d4f2a6f2b0e",
}

// noValue is what AWS::NoValue gives: whoever holds it leaves it out.
type noValue struct{}

// stack resolves a template's functions. A resource's Ref is its name, and an attribute its
// name and the attribute's.
type stack struct {
	template   template.Template
	parameters map[string]any
}

// newStack gives parameters their values, and holds them to the template's constraints.
func newStack(t template.Template, given map[string]string) (stack, error) {
	s := stack{template: t, parameters: map[string]any{}}
	for name := range given {
		if _, ok := t.Parameter(name); !ok {
			return s, fmt.Errorf("there is no parameter %s", name)
		}
	}
	for _, p := range t.Parameters {
		text, ok := given[p.Name]
		switch {
		case ok:
		case p.Default != nil:
			text = *p.Default
		default:
			return s, fmt.Errorf("parameter %s has no value", p.Name)
		}
		values := []string{text}
		if p.IsList() {
			values = strings.Split(text, ",")
			s.parameters[p.Name] = list(values)
		} else {
			s.parameters[p.Name] = text
		}
		for _, v := range values {
			if p.AllowedPattern != "" && !regexp.MustCompile(p.AllowedPattern).MatchString(v) || len(p.AllowedValues) > 0 && !slices.Contains(p.AllowedValues, v) {
				return s, fmt.Errorf("parameter %s %s", p.Name, p.ConstraintDescription)
			}
		}
	}
	return s, nil
}

func list(values []string) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}

// failedRules are the descriptions of the assertions that do not hold.
func (s stack) failedRules() []string {
	var failed []string
	for _, rule := range s.template.Rules {
		body := rule.Body.(map[string]any)
		if condition, ok := body["RuleCondition"]; ok && s.resolve(condition) != true {
			continue
		}
		for _, a := range body["Assertions"].([]any) {
			assertion := a.(map[string]any)
			if s.resolve(assertion["Assert"]) != true {
				failed = append(failed, assertion["AssertDescription"].(string))
			}
		}
	}
	return failed
}

func (s stack) condition(name string) bool {
	for _, c := range s.template.Conditions {
		if c.Name == name {
			return s.resolve(c.Body).(bool)
		}
	}
	panic("there is no condition " + name)
}

// properties are a resource's, resolved.
func (s stack) properties(name string) map[string]any {
	r, ok := s.template.Resource(name)
	if !ok {
		panic("there is no resource " + name)
	}
	return s.resolve(r.Body["Properties"]).(map[string]any)
}

// made are the names of the resources whose conditions hold.
func (s stack) made() []string {
	var names []string
	for _, r := range s.template.Resources {
		if r.Condition == "" || s.condition(r.Condition) {
			names = append(names, r.Name)
		}
	}
	return names
}

func (s stack) resolve(value any) any {
	switch v := value.(type) {
	case []any:
		out := []any{}
		for _, element := range v {
			if r := s.resolve(element); r != (any)(noValue{}) {
				out = append(out, r)
			}
		}
		return out
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || name == "Condition" || strings.HasPrefix(name, "Fn::") {
					return s.call(name, argument)
				}
			}
		}
		out := map[string]any{}
		for key, element := range v {
			if r := s.resolve(element); r != (any)(noValue{}) {
				out[key] = r
			}
		}
		return out
	}
	return value
}

func (s stack) call(name string, argument any) any {
	switch name {
	case "Ref":
		return s.ref(argument.(string))
	case "Condition":
		return s.condition(argument.(string))
	case "Fn::If":
		arguments := argument.([]any)
		if s.condition(arguments[0].(string)) {
			return s.resolve(arguments[1])
		}
		return s.resolve(arguments[2])
	case "Fn::Sub":
		return s.sub(argument)
	}
	resolved := s.resolve(argument)
	arguments, _ := resolved.([]any)
	switch name {
	case "Fn::Equals":
		return fmt.Sprint(arguments[0]) == fmt.Sprint(arguments[1])
	case "Fn::Not":
		return arguments[0] == false
	case "Fn::And":
		return !slices.Contains(arguments, any(false))
	case "Fn::Or":
		return slices.Contains(arguments, any(true))
	case "Fn::EachMemberEquals":
		return !slices.ContainsFunc(arguments[0].([]any), func(member any) bool { return member != arguments[1] })
	case "Fn::Select":
		return arguments[1].([]any)[arguments[0].(int)]
	case "Fn::Join":
		var words []string
		for _, word := range arguments[1].([]any) {
			words = append(words, fmt.Sprint(word))
		}
		return strings.Join(words, arguments[0].(string))
	case "Fn::Split":
		return list(strings.Split(arguments[1].(string), arguments[0].(string)))
	case "Fn::Base64":
		return base64.StdEncoding.EncodeToString([]byte(resolved.(string)))
	case "Fn::GetAtt":
		return fmt.Sprint(arguments[0], ".", arguments[1])
	}
	panic("the tests do not know " + name)
}

func (s stack) ref(name string) any {
	if name == "AWS::NoValue" {
		return noValue{}
	}
	if v, ok := pseudo[name]; ok {
		return v
	}
	if v, ok := s.parameters[name]; ok {
		return v
	}
	if _, ok := s.template.Resource(name); ok {
		return name
	}
	panic("there is nothing called " + name)
}

var variable = regexp.MustCompile(`\$\{([^}!]*)\}`)

func (s stack) sub(argument any) string {
	text, own := argument, map[string]any{}
	if arguments, ok := argument.([]any); ok {
		text = arguments[0]
		maps.Copy(own, s.resolve(arguments[1]).(map[string]any))
	}
	return variable.ReplaceAllStringFunc(text.(string), func(match string) string {
		name := match[2 : len(match)-1]
		if v, ok := own[name]; ok {
			return fmt.Sprint(v)
		}
		if strings.Contains(name, ".") {
			return name
		}
		return fmt.Sprint(s.ref(name))
	})
}
