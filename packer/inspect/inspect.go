// Package inspect holds the root file system of a node, as it is packed, against what a
// node must be: its units, versions and kernel settings, no way in but the cluster's,
// nothing secret in it, and what applies of the CIS benchmarks for Kubernetes workers and
// for Debian. It reads the tree and decides; it changes nothing, starts nothing and never
// looks at the machine that it runs on.
package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// Subject is what is inspected.
type Subject struct {
	Root        string // the directory of the root file system
	CommandLine string // the kernel's
	Verity      bool   // whether the root is to be read-only and verified
	// Masked are the systemd units that must not start.
	Masked []string
	// Rendered is a directory with the files that the tree's own agent writes at boot.
	// Empty when the tree has no agent.
	Rendered string
}

// Outcome is how the subject stands to a control.
type Outcome string

// The outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	Excepted      Outcome = "excepted" // failed, and the template says why that is right
	NotApplicable Outcome = "not applicable"
)

// Result is the answer to one control.
type Result struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Source  string   `json:"source,omitempty"` // the benchmark that asks for it
	Outcome Outcome  `json:"outcome"`
	Found   []string `json:"found,omitempty"` // what is not as wanted
	Want    string   `json:"want,omitempty"`
	Reason  string   `json:"reason,omitempty"` // of an exception, or why it does not apply
}

// Exception accepts a control's failure.
type Exception struct{ Control, Reason string }

// control is one requirement. Exactly one of find and inapplicable is set.
type control struct {
	id, title, source, want string
	// needs tells why the control does not apply to a machine; empty: it does.
	needs func(*machine) string
	// find lists what is not as wanted, in an order that depends on the tree only.
	find         func(*machine) ([]string, error)
	inapplicable string
}

// controls are all that are known, in the report's order.
func controls() []control {
	return slices.Concat(unitControls, versionControls, kernelControls, fileControls,
		accountControls, secretControls, leftoverControls, kubeletFileControls, kubeletControls, inapplicableControls)
}

// Known reports whether a control has the name id and can fail.
func Known(id string) bool {
	return slices.ContainsFunc(controls(), func(c control) bool { return c.id == id && c.find != nil })
}

// Run inspects the subject. An error means that it could not be read, not that it failed.
func Run(s Subject) ([]Result, error) {
	m, err := read(s)
	if err != nil {
		return nil, fmt.Errorf("inspect the root file system: %w", err)
	}
	var results []Result
	for _, c := range controls() {
		r, err := c.answer(m)
		if err != nil {
			return nil, fmt.Errorf("inspect the root file system: control %s: %w", c.id, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (c control) answer(m *machine) (Result, error) {
	r := Result{ID: c.id, Title: c.title, Source: c.source, Outcome: NotApplicable, Reason: c.inapplicable}
	if c.find == nil {
		return r, nil
	}
	r.Want = c.want
	if c.needs != nil {
		if r.Reason = c.needs(m); r.Reason != "" {
			return r, nil
		}
	}
	found, err := c.find(m)
	if err != nil {
		return r, err
	}
	if r.Outcome, r.Found = Passed, found; len(found) > 0 {
		r.Outcome = Failed
	}
	return r, nil
}

// Except marks the failures that the template accepts. It returns what the template says
// without need: exceptions from controls that have not failed.
func Except(results []Result, exceptions []Exception) (judged []Result, unused []Exception) {
	judged = slices.Clone(results)
	for _, e := range exceptions {
		i := slices.IndexFunc(judged, func(r Result) bool { return r.ID == e.Control && r.Outcome == Failed })
		if i < 0 {
			unused = append(unused, e)
			continue
		}
		judged[i].Outcome, judged[i].Reason = Excepted, e.Reason
	}
	return judged, unused
}

// Failures is an error that lists the controls that failed, or nil.
func Failures(results []Result) error {
	var text strings.Builder
	n := 0
	for _, r := range results {
		if r.Outcome != Failed {
			continue
		}
		n++
		fmt.Fprintf(&text, "\n  %s: %s", r.ID, r.Title)
		if r.Source != "" {
			fmt.Fprintf(&text, " (%s)", r.Source)
		}
		fmt.Fprintf(&text, "\n    found %s\n    want %s", shorten(r.Found, 5), r.Want)
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("the image fails %d of its controls:%s\n"+
		"change what the provisioners do, or accept a failure in the source block:\n"+
		"  except {\n    control = \"...\"\n    reason  = \"...\"\n  }", n, text.String())
}

// shorten joins the first limit of the findings.
func shorten(found []string, limit int) string {
	if len(found) <= limit {
		return strings.Join(found, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(found[:limit], "; "), len(found)-limit)
}
