package nodeconfig

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is one YAML document of a part.
type document struct {
	part  part
	first int // the line of the part that is its first
	data  []byte
}

// problem is one in this document, at the line that its field is on.
func (d document) problem(field, format string, args ...any) Problem {
	return d.locate(Problems{d.part.problem(field, format, args...)})[0]
}

// locate puts the problems of this document at the lines of their fields. What is missing
// is missing from the nearest mapping around it. Only who has problems pays for another
// reading of the document.
func (d document) locate(problems Problems) Problems {
	if len(problems) == 0 {
		return nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal(d.data, &root); err != nil || len(root.Content) == 0 {
		return problems
	}
	for i := range problems {
		if problems[i].Line == 0 && problems[i].Field != "" {
			line, _ := lineOf(root.Content[0], problems[i].Field)
			problems[i].Line = d.first - 1 + line
		}
	}
	return problems
}

// has reports whether the document says anything about a field.
func (d document) has(field string) bool {
	var root yaml.Node
	if err := yaml.Unmarshal(d.data, &root); err != nil || len(root.Content) == 0 {
		return false
	}
	_, whole := lineOf(root.Content[0], field)
	return whole
}

// lineOf returns the line of the field at path, or else of the innermost field around it
// that is there; whole says which. A key may hold the dots and brackets that part a path,
// so the longest key that fits is taken.
func lineOf(node *yaml.Node, path string) (line int, whole bool) {
	line = node.Line
	for path != "" {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		var next *yaml.Node
		best, rest := 0, ""
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				key := node.Content[i]
				after, ok := strings.CutPrefix(path, key.Value)
				if !ok || len(key.Value) == 0 || len(key.Value) < best || after != "" && after[0] != '.' && after[0] != '[' {
					continue
				}
				best, rest, next, line = len(key.Value), strings.TrimPrefix(after, "."), node.Content[i+1], key.Line
			}
		case yaml.SequenceNode:
			index, after, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
			if at, err := strconv.Atoi(index); ok && err == nil && at >= 0 && at < len(node.Content) {
				next = node.Content[at]
				rest, line = strings.TrimPrefix(after, "."), next.Line
			}
		}
		if next == nil {
			return line, false
		}
		node, path = next, rest
	}
	return line, true
}
