package ec2

import (
	"strings"
)

// filter keeps what has one of the values under the name.
type filter struct {
	name   string
	values []string
}

func (p *params) filters() []filter {
	var filters []filter
	for _, member := range p.members("Filter") {
		f := filter{name: p.required(member + ".Name"), values: p.list(member + ".Value")}
		if len(f.values) == 0 {
			p.fail(invalid("InvalidParameterValue", "The filter '%s' has no values", f.name))
		}
		filters = append(filters, f)
	}
	return filters
}

// attributes are what a resource can be filtered by: each yields the values that it has.
type attributes[T any] map[string]func(T) []string

// one makes an attribute with a single value.
func one[T any](value func(T) string) func(T) []string {
	return func(t T) []string { return []string{value(t)} }
}

// choose keeps the resources that all filters let pass. Tags may be nil for resources
// that have none.
func choose[T any](all []T, filters []filter, known attributes[T], tags func(T) map[string]string) ([]T, error) {
	for _, f := range filters {
		attribute, ok := known[f.name]
		if !ok {
			attribute, ok = tagAttribute(f.name, tags)
		}
		if !ok {
			return nil, invalid("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
		var kept []T
		for _, t := range all {
			if anyMatch(attribute(t), f.values) {
				kept = append(kept, t)
			}
		}
		all = kept
	}
	return all, nil
}

// tagAttribute knows tag:<key>, tag-key and tag-value.
func tagAttribute[T any](name string, tags func(T) map[string]string) (func(T) []string, bool) {
	key, byKey := strings.CutPrefix(name, "tag:")
	if !byKey && name != "tag-key" && name != "tag-value" {
		return nil, false
	}
	return func(t T) []string {
		var values []string
		for k, v := range tags(t) {
			switch {
			case byKey && k == key, name == "tag-value":
				values = append(values, v)
			case name == "tag-key":
				values = append(values, k)
			}
		}
		return values
	}, true
}

func anyMatch(values, patterns []string) bool {
	for _, pattern := range patterns {
		for _, value := range values {
			if match(pattern, value) {
				return true
			}
		}
	}
	return false
}

// match knows the wildcards of EC2's filters: * for any text, ? for one character, and a
// backslash before either for itself.
func match(pattern, value string) bool {
	for pattern != "" {
		switch c := pattern[0]; {
		case c == '*':
			for i := 0; i <= len(value); i++ {
				if match(pattern[1:], value[i:]) {
					return true
				}
			}
			return false
		case value == "":
			return false
		case c == '\\' && len(pattern) > 1:
			pattern = pattern[1:]
			if pattern[0] != value[0] {
				return false
			}
		case c != '?' && c != value[0]:
			return false
		}
		pattern, value = pattern[1:], value[1:]
	}
	return value == ""
}
