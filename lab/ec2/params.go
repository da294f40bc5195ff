package ec2

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

func invalid(code, format string, args ...any) *wire.Error {
	return &wire.Error{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// params are a request's parameters. Each reader marks what it read, so that a parameter
// that nothing reads can be refused: what a caller asks for is never dropped in silence.
type params struct {
	id       string // of the request, for the response
	caller   string // ARN
	internal bool   // the lab's own call, which may give tags and names that are AWS's
	values   url.Values
	read     map[string]bool
	err      error // the first of the readers'
}

func newParams(call wire.Call) *params {
	p := &params{id: call.ID, caller: call.Caller.ARN, values: call.Params, read: map[string]bool{"Action": true, "Version": true, "DryRun": true}}
	for name := range call.Params {
		if strings.HasPrefix(name, "X-Amz-") { // a presigned request's own
			p.read[name] = true
		}
	}
	return p
}

func (p *params) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// done is the first reader's error, or names a parameter that none has read.
func (p *params) done() error {
	if p.err != nil {
		return p.err
	}
	var unknown []string
	for name := range p.values {
		if !p.read[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return invalid("UnknownParameter", "The parameter %s is not recognized", slices.Min(unknown))
	}
	return nil
}

// under are the parameters whose names begin with the prefix.
func (p *params) under(prefix string) []string {
	var names []string
	for name := range p.values {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

func (p *params) has(name string) bool { return p.values.Has(name) }

func (p *params) text(name string) string {
	p.read[name] = true
	return p.values.Get(name)
}

// required is a text that must be there.
func (p *params) required(name string) string {
	if p.text(name) == "" {
		p.fail(invalid("MissingParameter", "The request must contain the parameter %s", name))
	}
	return p.values.Get(name)
}

func (p *params) integer(name string, otherwise int) int {
	text := p.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for %s.", text, name))
	}
	return n
}

func (p *params) boolean(name string) bool {
	switch text := p.text(name); text {
	case "", "false":
		return false
	case "true":
		return true
	default:
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for %s. Expected true or false.", text, name))
		return false
	}
}

// oneOf is a text with a fixed set of values, the first of which is the default.
func (p *params) oneOf(name string, values ...string) string {
	text := p.text(name)
	if text == "" {
		return values[0]
	}
	if !slices.Contains(values, text) {
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for %s. Expected one of: %s.", text, name, strings.Join(values, ", ")))
	}
	return text
}

// list is the values of name.1, name.2 and so on.
func (p *params) list(name string) []string {
	var values []string
	for _, member := range p.members(name) {
		if p.has(member) {
			values = append(values, p.text(member))
		}
	}
	return values
}

// members are the distinct name.N that begin parameters' names, in the order of N.
func (p *params) members(name string) []string {
	var numbers []int
	for key := range p.values {
		rest, ok := strings.CutPrefix(key, name+".")
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && strconv.Itoa(n) == digits {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var members []string
	for _, n := range slices.Compact(numbers) {
		members = append(members, fmt.Sprintf("%s.%d", name, n))
	}
	return members
}
