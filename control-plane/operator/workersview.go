package operator

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// workersResult is what create, update and delete print.
type workersResult struct {
	Stack   string `json:"stack"`
	Cluster string `json:"cluster"`
	Status  string `json:"status"`  // of the stack; "" if the command ended before the operation
	Changed bool   `json:"changed"` // whether anything was begun
	workers.ChangeSet
	Failure *workers.Failure `json:"failure,omitempty"`
	// Problems are what else went wrong.
	Problems []string `json:"problems,omitempty"`
}

func resultOf(stack workers.Stack, set workers.ChangeSet, outcome workers.Outcome) workersResult {
	return workersResult{Stack: stack.Name, Cluster: stack.Cluster, Status: outcome.Status, ChangeSet: set, Failure: outcome.Failure}
}

// printWorkers prints what a command came to, also beside the error with which it ended.
func printWorkers(cmd *cobra.Command, output *cli.Output, result workersResult, err error) error {
	if result.Status == "" {
		return err
	}
	return errors.Join(output.Print(cmd.OutOrStdout(), result, func(w io.Writer) error {
		if !result.Changed {
			_, err := fmt.Fprintf(w, "there is nothing to change in stack %s\n", result.Stack)
			return err
		}
		rows := [][]string{{"stack", result.Stack}, {"cluster", result.Cluster}, {"status", result.Status}}
		for _, problem := range result.Problems {
			rows = append(rows, []string{"problem", problem})
		}
		if err := table(append(rows, failureRows(result.Failure)...)...)(w); err != nil {
			return err
		}
		return words(w, result.Failure)
	}), err)
}

func changeTable(changes []workers.Change) func(io.Writer) error {
	rows := [][]string{{"ACTION", "LOGICAL ID", "TYPE", "REPLACEMENT", "CHANGES"}}
	for _, c := range changes {
		rows = append(rows, []string{c.Action, c.LogicalID, c.Type, c.Replacement, strings.Join(c.Properties, ", ")})
	}
	return table(rows...)
}

func parameterTable(parameters []workers.ParameterChange) func(io.Writer) error {
	rows := [][]string{{"PARAMETER", "BEFORE", "AFTER"}}
	for _, p := range parameters {
		rows = append(rows, []string{p.Name, short(p.Before), short(p.After)})
	}
	return table(rows...)
}

// short is the beginning of a value that may be a certificate or a script.
func short(value string) string {
	return fit(strings.Join(strings.Fields(value), " "), 48)
}

// workersDetails prints a stack, its instances and its last failure.
func workersDetails(s workers.Status) func(io.Writer) error {
	rows := [][]string{{"stack", s.Name}, {"cluster", s.Cluster}, {"status", s.Status}}
	if s.Reason != "" {
		rows = append(rows, []string{"reason", s.Reason})
	}
	rows = append(rows, []string{"created", local(s.Created)})
	if s.Updated != nil {
		rows = append(rows, []string{"updated", local(*s.Updated)})
	}
	instances := [][]string{{"INSTANCE", "LIFECYCLE", "HEALTH", "TYPE", "ZONE", "TEMPLATE"}}
	for _, g := range s.Groups {
		rows = append(rows,
			[]string{"group", g.Name},
			[]string{"nodes", fmt.Sprintf("%d of %d, at least %d, at most %d", inService(g), g.Desired, g.Min, g.Max)})
		for _, i := range g.Instances {
			instances = append(instances, []string{i.ID, i.Lifecycle, i.Health, i.Type, i.Zone, version(i)})
		}
	}
	rows = append(rows, failureRows(s.Failure)...)
	return func(w io.Writer) error {
		if err := table(rows...)(w); err != nil {
			return err
		}
		if len(instances) > 1 {
			fmt.Fprintln(w)
			if err := table(instances...)(w); err != nil {
				return err
			}
		}
		return words(w, s.Failure)
	}
}

func inService(g workers.Group) int {
	n := 0
	for _, i := range g.Instances {
		if i.Lifecycle == "InService" {
			n++
		}
	}
	return n
}

// version is that of an instance's launch template, and whether new instances have it too.
func version(i workers.Instance) string {
	switch {
	case i.Current == nil:
		return i.Template
	case *i.Current:
		return i.Template + " (current)"
	}
	return i.Template + " (old)"
}

func failureRows(f *workers.Failure) [][]string {
	if f == nil {
		return nil
	}
	rows := [][]string{{"failed first", headline(f.Event)}, {"at", local(f.At)}}
	for _, launch := range f.Launches {
		rows = append(rows, []string{"launch failed", launch})
	}
	if f.Problem != "" {
		rows = append(rows, []string{"not known", f.Problem})
	}
	return rows
}

// words prints what instances said for themselves.
func words(w io.Writer, f *workers.Failure) error {
	if f == nil {
		return nil
	}
	for _, n := range f.Nodes {
		state := ""
		if n.State != "" {
			state = " (" + n.State + ")"
		}
		switch {
		case len(n.Console) == 0 && n.Problem != "":
			fmt.Fprintf(w, "\n%s%s did not signal success, and its console cannot be read: %s\n", n.Instance, state, n.Problem)
		case len(n.Console) == 0:
			fmt.Fprintf(w, "\n%s%s did not signal success, and has printed nothing on its console\n", n.Instance, state)
		case n.Agent:
			fmt.Fprintf(w, "\n%s%s did not signal success. Its agent said, in seconds since the kernel started:\n", n.Instance, state)
		default:
			fmt.Fprintf(w, "\n%s%s did not signal success, and its agent said nothing. The end of its console:\n", n.Instance, state)
		}
		for _, line := range n.Console {
			if _, err := fmt.Fprintf(w, "  %s\n", line); err != nil {
				return err
			}
		}
	}
	return nil
}
