package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
)

func faultCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Make AWS calls go wrong",
		Long: `Make calls to the lab's AWS services go wrong, to see what their clients do about it. With
no other command, show the faults that may still strike, and how often each action was
called since the lab's daemon was started.`,
		Example: `  ovenbird-lab fault
  ovenbird-lab fault add throttle PutSnapshotBlock --count 20
  ovenbird-lab fault clear`,
		Args: cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.faults(cmd, output, func(ctx context.Context, c control.Client) (control.State, error) { return c.State(ctx) })
	}
	cmd.AddCommand(faultAddCommand(p), faultClearCommand(p))
	return cmd
}

func faultAddCommand(p *place) *cobra.Command {
	var f fault.Fault
	cmd := &cobra.Command{
		Use:   "add EFFECT [ACTION]",
		Short: "Put a fault to work",
		Long: `Put a fault to work, on the calls of one action or on all calls. The effects:

  throttle   refuse: too many requests
  fail       refuse with the service's own status 500
  deny       refuse: not authorised
  exhaust    refuse: a quota is used up
  lose       carry the call out, then reset the connection instead of answering
  delay      carry the call out after --wait`,
		Example: `  ovenbird-lab fault add throttle PutSnapshotBlock --per-second 50
  ovenbird-lab fault add lose CompleteSnapshot --count 1
  ovenbird-lab fault add fail PutSnapshotBlock --share 0.1
  ovenbird-lab fault add deny RegisterImage
  ovenbird-lab fault add delay --wait 2s`,
		Args: cobra.RangeArgs(1, 2),
	}
	flags := cmd.Flags()
	flags.IntVar(&f.Count, "count", 0, "calls that it befalls (default: all until it is cleared)")
	flags.IntVar(&f.After, "after", 0, "calls that pass first")
	flags.Float64Var(&f.Share, "share", 0, "share of the calls that it befalls, such as 0.1 (default: all)")
	flags.Float64Var(&f.PerSecond, "per-second", 0, "calls a second that go unharmed (default: none)")
	flags.DurationVar(&f.Wait, "wait", 0, "how long a delay takes")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.Effect = fault.Effect(args[0])
		if len(args) > 1 {
			f.Action = args[1]
		}
		if err := f.Check(); err != nil {
			return cli.Usage(fmt.Errorf("fault add: %w", err))
		}
		return p.faults(cmd, output, func(ctx context.Context, c control.Client) (control.State, error) { return c.Add(ctx, f) })
	}
	return cmd
}

func faultClearCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "clear",
		Short:   "End all faults",
		Example: `  ovenbird-lab fault clear`,
		Args:    cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.faults(cmd, output, func(ctx context.Context, c control.Client) (control.State, error) { return c.Clear(ctx) })
	}
	return cmd
}

// faults asks the daemon for something and prints how things are then.
func (p *place) faults(cmd *cobra.Command, output *cli.Output, ask func(context.Context, control.Client) (control.State, error)) error {
	dir, _, err := p.running()
	if err != nil {
		return err
	}
	state, err := ask(cmd.Context(), control.Client(dir.Control()))
	if err != nil {
		return fmt.Errorf("fault: %w", err)
	}
	return output.Print(cmd.OutOrStdout(), state, func(w io.Writer) error {
		if len(state.Faults) == 0 {
			fmt.Fprintln(w, "no faults")
		}
		for _, f := range state.Faults {
			fmt.Fprintln(w, f)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, action := range slices.Sorted(maps.Keys(state.Calls)) {
			fmt.Fprintf(t, "%s\t%d calls\n", action, state.Calls[action])
		}
		return t.Flush()
	})
}
