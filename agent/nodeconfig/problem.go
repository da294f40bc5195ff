package nodeconfig

import (
	"fmt"
	"strings"
)

// Problem is one mistake in user-data, told in one line.
type Problem struct {
	Part    string `json:"part,omitempty"`  // "part 2 (application/node.eks.aws)"; empty when there is one part only
	Line    int    `json:"line,omitempty"`  // of the unpacked part, from 1; 0 when it is about no line
	Field   string `json:"field,omitempty"` // "spec.cluster.cidr"; empty when the part as a whole is wrong
	Message string `json:"message"`
}

func (p Problem) Error() string {
	where := p.Part
	if p.Line > 0 {
		where = strings.TrimPrefix(fmt.Sprintf("%s, line %d", p.Part, p.Line), ", ")
	}
	var said []string
	for _, s := range []string{where, p.Field, p.Message} {
		if s != "" {
			said = append(said, strings.Join(strings.Fields(s), " "))
		}
	}
	return strings.Join(said, ": ")
}

// Problems are all the mistakes that were found at once.
type Problems []Problem

func (p Problems) Error() string { return strings.Join(p.lines(), "; ") }

func (p Problems) lines() []string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return lines
}

// ProblemOf makes a Problem of an error that begins with the field that it is about, as
// those of the packages that make a node's files do.
func ProblemOf(err error) Problem {
	field, message, ok := strings.Cut(err.Error(), ": ")
	if !ok || !strings.HasPrefix(field, "spec.") || strings.ContainsAny(field, " \n") {
		return Problem{Message: err.Error()}
	}
	return Problem{Field: field, Message: message}
}
