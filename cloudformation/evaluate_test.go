package cloudformation_test

import (
	"github.com/ovenbird-dev/ovenbird/cloudformation/template"
	lab "github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
)

// pseudo are the pseudo parameters of a stack in the tests.
var pseudo = map[string]any{
	"AWS::AccountId": "111122223333", "AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::URLSuffix": "amazonaws.com",
	"AWS::StackName": "workers", "AWS::StackId": "arn:aws:cloudformation:eu-central-1:111122223333:stack/workers/5ac4ba2c-94b0-4a4c-8a2c-0d4f2a6f2b0e",
}

// stack is a template with values for its parameters, as the lab evaluates it. A resource's Ref
// is its name, an attribute the name and the attribute's, and an SSM parameter's value "value of"
// and its name.
type stack struct {
	template template.Template
	scope    *lab.Scope
}

// newStack gives parameters their values, and holds them to the template's constraints.
func newStack(t template.Template, given map[string]string) (stack, error) {
	parsed, err := lab.Parse(t.Source)
	if err != nil {
		return stack{}, err
	}
	if err := parsed.Check(func(string, string) bool { return true }); err != nil {
		return stack{}, err
	}
	values, err := parsed.Given(given)
	if err != nil {
		return stack{}, err
	}
	scope := &lab.Scope{
		Template: parsed, Parameters: map[string]any{}, Pseudo: pseudo,
		Ref:       func(resource string) (any, error) { return resource, nil },
		Attribute: func(resource, name string) (any, error) { return resource + "." + name, nil },
		Dynamic:   func(_, key string) (string, error) { return "value of " + key, nil },
		Zones:     func(region string) []string { return []string{region + "a", region + "b", region + "c"} },
	}
	for name, value := range values {
		scope.Parameters[name] = parsed.Parameters[name].Value(value)
	}
	_, err = scope.Evaluate()
	return stack{t, scope}, err
}

// failedRules are the rules that do not hold: none, or the first in words.
func (s stack) failedRules() []string {
	if err := s.scope.Check(); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func (s stack) condition(name string) bool { return s.scope.Conditions[name] }

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

// resolve evaluates a value. Check has seen to all that could be wrong with one.
func (s stack) resolve(value any) any {
	resolved, err := s.scope.Resolve(value)
	if err != nil {
		panic(err)
	}
	return resolved
}
