package nodeconfig

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// kubeletFields is KubeletConfiguration's shape, "path kind" a line, written from the
// upstream types by go test -update. The types themselves would bring kubelet's metrics
// and logging into the agent: 3 MB, and a third of its start-up.
//
// A kind is string, bool, int, float, duration, object (whose fields follow), any, or
// list:KIND and map:KIND.
//
//go:embed kubelet_fields.txt
var kubeletFields string

// kubeletShape returns the kinds by path.
func kubeletShape() map[string]string {
	shape := map[string]string{}
	for line := range strings.Lines(kubeletFields) {
		if path, kind, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			shape[path] = kind
		}
	}
	return shape
}

// kubeletObject holds an object of the user's KubeletConfiguration against its shape, as
// kubelet does when it starts: there, a wrong type ends it, over and over, and an unknown
// field has no effect.
func (c *checker) kubeletObject(shape map[string]string, path string, object map[string]any) {
	const field = "spec.kubelet.config."
	for _, key := range slices.Sorted(maps.Keys(object)) {
		at := path + key
		kind, known := shape[at]
		if !known {
			c.warnings = append(c.warnings, c.part.problem(field+at, "kubelet has no such field and ignores it"))
			continue
		}
		if nested, ok := object[key].(map[string]any); ok && kind == "object" {
			c.kubeletObject(shape, at+".", nested)
			continue
		}
		c.kubeletValue(field+at, kind, object[key])
	}
}

func (c *checker) kubeletValue(field, kind string, value any) {
	if value == nil || kind == "any" {
		return // null takes a default away
	}
	kind, element, _ := strings.Cut(kind, ":")
	ok, wanted := false, ""
	switch kind {
	case "string":
		_, ok = value.(string)
		wanted = "a string"
	case "bool":
		_, ok = value.(bool)
		wanted = "true or false"
	case "int":
		_, ok = value.(int64)
		wanted = "a whole number"
	case "float":
		_, whole := value.(int64)
		_, broken := value.(float64)
		ok, wanted = whole || broken, "a number"
	case "duration":
		text, _ := value.(string)
		_, err := time.ParseDuration(text)
		ok, wanted = err == nil, "a duration such as 2m30s"
	case "object":
		_, ok = value.(map[string]any)
		wanted = "a mapping"
	case "list":
		var list []any
		list, ok = value.([]any)
		wanted = "a list"
		for i, item := range list {
			c.kubeletValue(fmt.Sprintf("%s[%d]", field, i), element, item)
		}
	case "map":
		var mapping map[string]any
		mapping, ok = value.(map[string]any)
		wanted = "a mapping"
		for _, key := range slices.Sorted(maps.Keys(mapping)) {
			c.kubeletValue(field+"."+key, element, mapping[key])
		}
	}
	if !ok {
		c.problem(field, "want %s, not %s", wanted, describe(value))
	}
}

// describe names a value without repeating a long one.
func describe(value any) string {
	switch value := value.(type) {
	case string:
		return fmt.Sprintf("%q", value)
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	default:
		return fmt.Sprint(value)
	}
}
