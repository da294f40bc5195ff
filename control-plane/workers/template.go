package workers

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Template is what is to be known of a template before CloudFormation is asked.
type Template struct {
	Parameters map[string]TemplateParameter `yaml:"Parameters"`
}

// TemplateParameter is the declaration of a parameter.
type TemplateParameter struct {
	Default *string `yaml:"Default"` // nil: a value must be given
}

// ParseTemplate reads a template's parameters; the rest is CloudFormation's to read.
func ParseTemplate(text []byte) (Template, error) {
	var t Template
	if err := yaml.Unmarshal(text, &t); err != nil {
		return Template{}, fmt.Errorf("read the template: %w", err)
	}
	if len(t.Parameters) == 0 {
		return Template{}, fmt.Errorf("read the template: it has no parameters")
	}
	return t, nil
}

func (t Template) names() []string { return slices.Sorted(maps.Keys(t.Parameters)) }

// Defaults are the parameters' values that need not be given.
func (t Template) Defaults() map[string]string {
	values := map[string]string{}
	for name, p := range t.Parameters {
		if p.Default != nil {
			values[name] = *p.Default
		}
	}
	return values
}
