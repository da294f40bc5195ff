// Package template reads CloudFormation templates, in YAML or JSON, and evaluates them:
// parameters, rules, mappings, conditions and intrinsic functions. It knows no resource type
// and makes nothing. What it does not know it refuses by name, with the line where it stands.
package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxBody is how large a template may be that is part of a request, in bytes.
const MaxBody = 51200

// Limits of one template.
const (
	maxParameters = 200
	maxResources  = 500
	maxOutputs    = 200
	maxMappings   = 200
)

// Template is one that was read. Values hold intrinsic functions in their long form, as
// {"Fn::Sub": ...} and {"Ref": ...}; otherwise they are maps, lists, strings, booleans, ints and float64s.
type Template struct {
	Description string
	Metadata    map[string]any
	Parameters  map[string]Parameter
	Rules       map[string]Rule
	Mappings    map[string]map[string]map[string]any
	Conditions  map[string]any
	Resources   map[string]Resource
	Outputs     map[string]Output

	lines map[string]int // by path, as /Resources/Nodes/Properties
}

// Rule holds assertions about the parameters.
type Rule struct {
	Condition  any // nil: always
	Assertions []Assertion
}

// Assertion is a condition that has to hold, and what to say when it does not.
type Assertion struct {
	Assert      any
	Description string
}

// Values of DeletionPolicy and UpdateReplacePolicy.
const (
	Delete               = "Delete"
	Retain               = "Retain"
	RetainExceptOnCreate = "RetainExceptOnCreate"
	Snapshot             = "Snapshot"
)

// Resource is one of the template's. Condition is empty for one that is always made.
type Resource struct {
	Type                                           string
	Properties                                     map[string]any
	DependsOn                                      []string
	Condition, DeletionPolicy, UpdateReplacePolicy string
	CreationPolicy, UpdatePolicy, Metadata         map[string]any
}

// Output is what a stack tells, under a name of the account's when Export is not nil.
type Output struct {
	Description string
	Value       any
	Condition   string
	Export      any // its name, a value
}

// Parse reads a template. An error is a refusal of CloudFormation's: it says what and where.
func Parse(body string) (*Template, error) {
	r := &reader{lines: map[string]int{}}
	root, err := r.document(body)
	if err != nil {
		return nil, err
	}
	t := &Template{lines: r.lines, Parameters: map[string]Parameter{}, Rules: map[string]Rule{}, Resources: map[string]Resource{}, Outputs: map[string]Output{}}
	for _, read := range []func(map[string]any) error{
		t.readHead, t.readParameters, t.readRules, t.readMappings, t.readConditions, t.readResources, t.readOutputs,
	} {
		if err := read(root); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fail is a refusal about what stands at a path.
func (t *Template) fail(path, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	for at := path; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
		if line, ok := t.lines[at]; ok {
			return fmt.Errorf("%s (line %d)", message, line)
		}
	}
	return fmt.Errorf("%s", message)
}

func (t *Template) malformed(path, format string, args ...any) error {
	return t.fail(path, "Template format error: "+format, args...)
}

// Line is where something stands in the template, as /Resources/Nodes; 0 when it is nowhere.
func (t *Template) Line(path string) int { return t.lines[path] }

func (t *Template) readHead(root map[string]any) error {
	known := []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions", "Resources", "Outputs"}
	if err := t.only("", root, "template property or properties", known...); err != nil {
		return err
	}
	if v, ok := root["AWSTemplateFormatVersion"]; ok && v != "2010-09-09" {
		return t.malformed("/AWSTemplateFormatVersion", "unsupported value for AWSTemplateFormatVersion.")
	}
	var err error
	if t.Description, err = t.text("", root, "Description"); err != nil {
		return err
	}
	if len(t.Description) > 1024 {
		return t.malformed("/Description", "'Description' length is greater than 1024.")
	}
	t.Metadata, err = t.object("", root, "Metadata")
	return err
}

// only refuses keys of an object that are not known.
func (t *Template) only(path string, object map[string]any, what string, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, key) {
			return t.fail(path+"/"+key, "Template format error: Invalid %s [%s]", what, key)
		}
	}
	return nil
}

// text is a member that is text, or empty.
func (t *Template) text(path string, in map[string]any, key string) (string, error) {
	v, ok := in[key]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", t.malformed(path+"/"+key, "%s must be a string", path+"/"+key)
	}
	return s, nil
}

// scalar is a member that is text, a number or a boolean, as text.
func (t *Template) scalar(path string, in map[string]any, key string) (string, bool, error) {
	v, ok := in[key]
	if !ok {
		return "", false, nil
	}
	s, ok := Text(v)
	if !ok {
		return "", false, t.malformed(path+"/"+key, "%s must be a string", path+"/"+key)
	}
	return s, true, nil
}

func (t *Template) object(path string, in map[string]any, key string) (map[string]any, error) {
	v, ok := in[key]
	if !ok {
		return nil, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, t.malformed(path+"/"+key, "%s must be an object", path+"/"+key)
	}
	return object, nil
}

// each calls read for the objects of a section, in the order of their names.
func (t *Template) each(root map[string]any, section string, most int, read func(path, name string, object map[string]any) error) error {
	all, err := t.object("", root, section)
	if err != nil {
		return err
	}
	if len(all) > most {
		return t.malformed("/"+section, "Number of %s, %d, is greater than maximum allowed, %d", strings.ToLower(section), len(all), most)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := "/" + section + "/" + name
		if !logicalID.MatchString(name) {
			return t.malformed(path, "%s name %s is non alphanumeric.", strings.TrimSuffix(section, "s"), name)
		}
		object, ok := all[name].(map[string]any)
		if !ok {
			return t.malformed(path, "%s must be an object", path)
		}
		if err := read(path, name, object); err != nil {
			return err
		}
	}
	return nil
}

func (t *Template) readMappings(root map[string]any) error {
	t.Mappings = map[string]map[string]map[string]any{}
	return t.each(root, "Mappings", maxMappings, func(path, name string, object map[string]any) error {
		t.Mappings[name] = map[string]map[string]any{}
		for key, v := range object {
			values, ok := v.(map[string]any)
			if !ok {
				return t.malformed(path+"/"+key, "Every Mappings member %s must be a map", key)
			}
			for second, value := range values {
				if !plain(value) {
					return t.malformed(path+"/"+key+"/"+second, "Every Mappings attribute must be a String or a List.")
				}
			}
			t.Mappings[name][key] = values
		}
		return nil
	})
}

// plain tells whether a value of a mapping is a scalar or a list of them.
func plain(v any) bool {
	if list, ok := v.([]any); ok {
		return !slices.ContainsFunc(list, func(v any) bool { _, ok := Text(v); return !ok })
	}
	_, ok := Text(v)
	return ok
}

func (t *Template) readConditions(root map[string]any) error {
	all, err := t.object("", root, "Conditions")
	t.Conditions = all
	for name := range all {
		if !logicalID.MatchString(name) {
			return t.malformed("/Conditions/"+name, "Condition name %s is non alphanumeric.", name)
		}
	}
	return err
}

func (t *Template) readRules(root map[string]any) error {
	return t.each(root, "Rules", maxMappings, func(path, name string, object map[string]any) error {
		if err := t.only(path, object, "rule property", "RuleCondition", "Assertions"); err != nil {
			return err
		}
		rule := Rule{Condition: object["RuleCondition"]}
		list, ok := object["Assertions"].([]any)
		if !ok || len(list) == 0 {
			return t.malformed(path, "rule %s must have a list of Assertions", name)
		}
		for i, v := range list {
			at := fmt.Sprintf("%s/Assertions/%d", path, i)
			object, ok := v.(map[string]any)
			if !ok || object["Assert"] == nil {
				return t.malformed(at, "an assertion of rule %s must have an Assert", name)
			}
			if err := t.only(at, object, "assertion property", "Assert", "AssertDescription"); err != nil {
				return err
			}
			description, err := t.text(at, object, "AssertDescription")
			if err != nil {
				return err
			}
			rule.Assertions = append(rule.Assertions, Assertion{object["Assert"], description})
		}
		t.Rules[name] = rule
		return nil
	})
}
