package template

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	logicalID = regexp.MustCompile(`^[A-Za-z0-9]{1,255}$`)
	integer   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
)

// reader makes values of YAML's nodes and takes note of their lines. JSON is YAML too.
type reader struct{ lines map[string]int }

func (r *reader) document(body string) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(body), &doc); err != nil {
		return nil, fmt.Errorf("Template format error: YAML not well-formed. (%s)", strings.TrimPrefix(err.Error(), "yaml: ")) //nolint:staticcheck // CloudFormation's words
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("Template format error: unsupported structure.") //nolint:staticcheck // CloudFormation's words
	}
	v, err := r.value("", doc.Content[0])
	if err != nil {
		return nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, refuse(doc.Content[0], "unsupported structure.")
	}
	return root, nil
}

func refuse(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("Template format error: %s (line %d, column %d)", fmt.Sprintf(format, args...), n.Line, n.Column) //nolint:staticcheck // CloudFormation's words
}

// value converts a node, and a short form of a function to its long one.
func (r *reader) value(path string, n *yaml.Node) (any, error) {
	r.lines[path] = n.Line
	name, short := strings.CutPrefix(n.Tag, "!")
	if !short || strings.HasPrefix(name, "!") {
		return r.content(path, n)
	}
	long := "Fn::" + name
	if name == "Ref" || name == "Condition" {
		long = name
	}
	if !known(long) {
		return nil, refuse(n, "the lab does not support the function !%s", name)
	}
	var arg any = n.Value
	if n.Kind != yaml.ScalarNode {
		var err error
		if arg, err = r.content(path+"/"+long, n); err != nil {
			return nil, err
		}
	}
	return map[string]any{long: arg}, nil
}

// content converts a node whatever its own tag is.
func (r *reader) content(path string, n *yaml.Node) (any, error) {
	if n.Anchor != "" {
		return nil, refuse(n, "YAML anchors and aliases are not allowed in CloudFormation templates")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return r.mapping(path, n)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, element := range n.Content {
			var err error
			if list[i], err = r.value(fmt.Sprintf("%s/%d", path, i), element); err != nil {
				return nil, err
			}
		}
		return list, nil
	case yaml.ScalarNode:
		return scalar(path, n)
	}
	return nil, refuse(n, "YAML aliases are not allowed in CloudFormation templates")
}

func (r *reader) mapping(path string, n *yaml.Node) (any, error) {
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			return nil, refuse(key, "a key must be a string; merges are not supported")
		case object[key.Value] != nil:
			return nil, refuse(key, "Duplicate key %s", key.Value)
		}
		v, err := r.value(path+"/"+key.Value, value)
		if err != nil {
			return nil, err
		}
		object[key.Value] = v
		r.lines[path+"/"+key.Value] = key.Line
	}
	return object, nil
}

// scalar reads what is not quoted. What YAML takes for a date, or for a number that would
// be spelled differently, stays text.
func scalar(path string, n *yaml.Node) (any, error) {
	tag := n.ShortTag()
	if n.Tag != "" && !strings.HasPrefix(n.Tag, "!!") && !strings.HasPrefix(n.Tag, "tag:") {
		tag = "!!str"
	}
	switch tag {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null":
		return nil, refuse(n, "[%s] 'null' values are not allowed in templates", path)
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int":
		if number, err := strconv.Atoi(n.Value); err == nil && integer.MatchString(n.Value) {
			return number, nil
		}
		return n.Value, nil
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && strings.ContainsAny(n.Value, ".eE") {
			return f, nil
		}
		return n.Value, nil
	}
	return nil, refuse(n, "CloudFormation does not support the YAML tag %s", tag)
}

// Text is a scalar as CloudFormation spells it.
func Text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
