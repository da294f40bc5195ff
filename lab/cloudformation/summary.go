package cloudformation

import (
	"context"
	"maps"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

type constraints struct {
	Allowed []string `xml:"AllowedValues>member"`
}

type declared struct {
	Key         string       `xml:"ParameterKey"`
	Default     *string      `xml:"DefaultValue"`
	Type        string       `xml:"ParameterType"`
	NoEcho      bool         `xml:"NoEcho"`
	Description string       `xml:"Description,omitempty"`
	Constraints *constraints `xml:"ParameterConstraints"`
}

type summary struct {
	Parameters   []declared `xml:"Parameters>member"`
	Description  string     `xml:"Description,omitempty"`
	Capabilities []string   `xml:"Capabilities>member"`
	Reason       string     `xml:"CapabilitiesReason,omitempty"`
	Types        []string   `xml:"ResourceTypes>member"`
	Version      string     `xml:"Version"`
	Metadata     string     `xml:"Metadata,omitempty"`
}

// source reads a template that is given, or a stack's or a change set's.
func (s Service) source(p *query.Params) (string, error) {
	name, set := p.Text("StackName"), p.Text("ChangeSetName")
	switch {
	case set != "":
		_, c, err := s.set(p)
		if err != nil {
			return "", err
		}
		return c.Spec.Body, nil
	case name != "" && !p.Given("TemplateBody"):
		if err := p.Done(); err != nil {
			return "", err
		}
		st, err := s.Stacks.get(name)
		if err != nil {
			return "", err
		}
		return st.Spec.Body, nil
	}
	text := body(p, nil)
	return text, p.Done()
}

func (s Service) summarize(_ context.Context, p *query.Params) (any, error) {
	text, err := s.source(p)
	if err != nil {
		return nil, err
	}
	t, err := s.Stacks.read(text)
	if err != nil {
		return nil, err
	}
	result := summary{Parameters: declare(t, true), Description: t.Description, Version: "2010-09-09"}
	result.Capabilities, result.Reason = capabilities(t)
	for _, r := range t.Resources {
		result.Types = append(result.Types, r.Type)
	}
	slices.Sort(result.Types)
	result.Types = slices.Compact(result.Types)
	if t.Metadata != nil {
		result.Metadata = encode(t.Metadata)
	}
	return result, nil
}

func declare(t *template.Template, full bool) []declared {
	var list []declared
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		p := t.Parameters[name]
		d := declared{Key: name, Default: p.Default, Type: p.Type, NoEcho: p.NoEcho, Description: p.Description}
		if full && len(p.AllowedValues) > 0 {
			d.Constraints = &constraints{p.AllowedValues}
		}
		list = append(list, d)
	}
	return list
}

type plainParameter struct {
	Key         string  `xml:"ParameterKey"`
	Default     *string `xml:"DefaultValue"`
	NoEcho      bool    `xml:"NoEcho"`
	Description string  `xml:"Description,omitempty"`
}

type validated struct {
	Parameters   []plainParameter `xml:"Parameters>member"`
	Description  string           `xml:"Description,omitempty"`
	Capabilities []string         `xml:"Capabilities>member"`
	Reason       string           `xml:"CapabilitiesReason,omitempty"`
}

func (s Service) validate(_ context.Context, p *query.Params) (any, error) {
	text := body(p, nil)
	if err := p.Done(); err != nil {
		return nil, err
	}
	t, err := s.Stacks.read(text)
	if err != nil {
		return nil, err
	}
	result := validated{Description: t.Description}
	result.Capabilities, result.Reason = capabilities(t)
	for _, d := range declare(t, false) {
		result.Parameters = append(result.Parameters, plainParameter{d.Key, d.Default, d.NoEcho, d.Description})
	}
	return result, nil
}
