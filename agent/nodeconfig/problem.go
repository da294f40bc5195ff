package nodeconfig

import "strings"

// Problem is one mistake in user-data, told in one line.
type Problem struct {
	Part    string // "part 2 (application/node.eks.aws)"; empty when there is one part only
	Field   string // "spec.cluster.cidr"; empty when the part as a whole is wrong
	Message string
}

func (p Problem) Error() string {
	var said []string
	for _, s := range []string{p.Part, p.Field, p.Message} {
		if s != "" {
			said = append(said, strings.Join(strings.Fields(s), " "))
		}
	}
	return strings.Join(said, ": ")
}

// Problems are all the mistakes that were found at once.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "; ")
}
