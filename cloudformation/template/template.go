// Package template reads CloudFormation templates as their authors wrote them: sections keep
// their order, and the functions' short forms become the long ones. It runs nothing.
package template

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:generate go run ../reference ../../docs/cloudformation

// Template is a template's sections.
type Template struct {
	Source      string // the whole of it
	Description string
	Groups      []Group
	Labels      map[string]string // of parameters, for people
	Parameters  []Parameter
	Rules       []Named
	Conditions  []Named
	Resources   []Resource
	Outputs     []Output
}

// Group is a group of parameters of AWS::CloudFormation::Interface.
type Group struct {
	Label      string
	Parameters []string
}

// Parameter is one parameter. Default is nil where there is none, and so are the bounds.
type Parameter struct {
	Name                  string   `yaml:"-"`
	Type                  string   `yaml:"Type"`
	Description           string   `yaml:"Description"`
	Default               *string  `yaml:"Default"`
	AllowedValues         []string `yaml:"AllowedValues"`
	AllowedPattern        string   `yaml:"AllowedPattern"`
	ConstraintDescription string   `yaml:"ConstraintDescription"`
	MinValue              *int     `yaml:"MinValue"`
	MaxValue              *int     `yaml:"MaxValue"`
}

// IsList says whether the parameter's value is a list, in its default and its constraints one
// string with commas.
func (p Parameter) IsList() bool {
	return p.Type == "CommaDelimitedList" || strings.HasPrefix(p.Type, "List<")
}

// Named is a section's entry, with what it holds.
type Named struct {
	Name string
	Body any
}

// Resource is one resource. Comment is what stands above it, without the marks.
type Resource struct {
	Name, Type, Condition, Comment string
	// Body is the whole of it, Type and Condition included.
	Body map[string]any
}

// Output is one output. Export is a value, or nil.
type Output struct {
	Name, Description, Condition string
	Value, Export                any
}

// Read reads the template in a file.
func Read(file string) (Template, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Template{}, err
	}
	t, err := Parse(data)
	if err != nil {
		return Template{}, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

// sections are what a template may have here. Mappings and Transform are not among them.
var sections = []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Conditions", "Resources", "Outputs"}

// Parse reads a template in YAML. A section that it does not know is an error, and so is a key
// that stands twice.
func Parse(data []byte) (Template, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return Template{}, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return Template{}, errors.New("the template is no mapping")
	}
	root := document.Content[0]
	for key := range entries(root) {
		if !slices.Contains(sections, key.Value) {
			return Template{}, fmt.Errorf("line %d: no section %s is known", key.Line, key.Value)
		}
	}
	whole, err := value(root)
	if err != nil {
		return Template{}, err
	}
	body := whole.(map[string]any)
	t := Template{Source: string(data), Labels: map[string]string{}}
	t.Description, _ = body["Description"].(string)
	t.readInterface(body["Metadata"])
	for key, node := range entries(child(root, "Parameters")) {
		p := Parameter{Name: key.Value}
		if err := node.Decode(&p); err != nil {
			return Template{}, fmt.Errorf("parameter %s: %w", p.Name, err)
		}
		t.Parameters = append(t.Parameters, p)
	}
	t.Rules, t.Conditions = named(root, body, "Rules"), named(root, body, "Conditions")
	for key := range entries(child(root, "Resources")) {
		fields, ok := at(body, "Resources", key.Value).(map[string]any)
		if !ok {
			return Template{}, fmt.Errorf("line %d: the resource %s is no mapping", key.Line, key.Value)
		}
		r := Resource{Name: key.Value, Comment: comment(key), Body: fields}
		r.Type, _ = fields["Type"].(string)
		r.Condition, _ = fields["Condition"].(string)
		t.Resources = append(t.Resources, r)
	}
	for key := range entries(child(root, "Outputs")) {
		o := Output{Name: key.Value, Value: at(body, "Outputs", key.Value, "Value"), Export: at(body, "Outputs", key.Value, "Export", "Name")}
		o.Description, _ = at(body, "Outputs", key.Value, "Description").(string)
		o.Condition, _ = at(body, "Outputs", key.Value, "Condition").(string)
		t.Outputs = append(t.Outputs, o)
	}
	return t, nil
}

// Parameter returns the parameter of a name.
func (t Template) Parameter(name string) (Parameter, bool) {
	i := slices.IndexFunc(t.Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return Parameter{}, false
	}
	return t.Parameters[i], true
}

// Resource returns the resource of a name.
func (t Template) Resource(name string) (Resource, bool) {
	i := slices.IndexFunc(t.Resources, func(r Resource) bool { return r.Name == name })
	if i < 0 {
		return Resource{}, false
	}
	return t.Resources[i], true
}

func (t *Template) readInterface(metadata any) {
	groups, _ := at(metadata, "AWS::CloudFormation::Interface", "ParameterGroups").([]any)
	for _, g := range groups {
		group := Group{}
		group.Label, _ = at(g, "Label", "default").(string)
		names, _ := at(g, "Parameters").([]any)
		for _, name := range names {
			group.Parameters = append(group.Parameters, fmt.Sprint(name))
		}
		t.Groups = append(t.Groups, group)
	}
	labels, _ := at(metadata, "AWS::CloudFormation::Interface", "ParameterLabels").(map[string]any)
	for name, label := range labels {
		t.Labels[name], _ = at(label, "default").(string)
	}
}

func named(root *yaml.Node, body map[string]any, section string) []Named {
	var list []Named
	for key := range entries(child(root, section)) {
		list = append(list, Named{Name: key.Value, Body: at(body, section, key.Value)})
	}
	return list
}

// entries yields a mapping's keys and values in their order, of nil nothing.
func entries(mapping *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

func child(mapping *yaml.Node, name string) *yaml.Node {
	for key, value := range entries(mapping) {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// at follows keys into mappings; nil where there is no such thing.
func at(value any, keys ...string) any {
	for _, key := range keys {
		mapping, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = mapping[key]
	}
	return value
}

func comment(key *yaml.Node) string {
	var lines []string
	for line := range strings.Lines(key.HeadComment) {
		lines = append(lines, strings.TrimSpace(strings.TrimLeft(line, "# ")))
	}
	return strings.Join(lines, " ")
}

// value makes plain values of a node, and of a short form such as !Ref x the long one.
func value(node *yaml.Node) (any, error) {
	plain, err := untagged(node)
	if err != nil || !strings.HasPrefix(node.Tag, "!") || strings.HasPrefix(node.Tag, "!!") {
		return plain, err
	}
	switch name := node.Tag[1:]; name {
	case "Ref", "Condition":
		return map[string]any{name: plain}, nil
	case "GetAtt":
		if text, ok := plain.(string); ok {
			resource, attribute, _ := strings.Cut(text, ".")
			plain = []any{resource, attribute}
		}
		return map[string]any{"Fn::GetAtt": plain}, nil
	default:
		return map[string]any{"Fn::" + name: plain}, nil
	}
}

func untagged(node *yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.MappingNode:
		mapping := map[string]any{}
		for key, element := range entries(node) {
			if _, twice := mapping[key.Value]; twice {
				return nil, fmt.Errorf("line %d: %s stands here twice", key.Line, key.Value)
			}
			var err error
			if mapping[key.Value], err = value(element); err != nil {
				return nil, err
			}
		}
		return mapping, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range node.Content {
			v, err := value(element)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return scalar(node)
	default:
		return nil, fmt.Errorf("line %d: CloudFormation takes no YAML aliases", node.Line)
	}
}

func scalar(node *yaml.Node) (any, error) {
	switch node.Tag {
	case "!!int":
		return strconv.Atoi(node.Value)
	case "!!bool":
		return strconv.ParseBool(node.Value)
	case "!!null":
		return nil, fmt.Errorf("line %d: CloudFormation takes no null", node.Line)
	}
	return node.Value, nil
}
