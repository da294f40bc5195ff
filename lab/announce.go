package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/control"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
)

// noticeTime is how long before it happens EC2 announces a spot interruption.
const noticeTime = 2 * time.Minute

func announceCommand(p *place) *cobra.Command {
	var n fleet.Notice
	var in time.Duration
	cmd := &cobra.Command{
		Use:   "announce EVENT ID",
		Short: "Announce something to an instance through its metadata",
		Long: `Announce something to an instance, which reads it from its metadata. The events:

  spot-interruption    a spot instance is terminated or stopped, as was chosen with run-instances
                       --spot; that is carried out
  rebalance            a spot instance is at a higher risk of interruption
  instance-reboot, system-reboot, system-maintenance, instance-retirement, instance-stop
                       maintenance is scheduled; the lab does no more than say so
  lifecycle-state      Auto Scaling takes the instance to --state; for one that is in no group`,
		Example: `  ovenbird-lab announce spot-interruption i-0123456789abcdef0
  ovenbird-lab announce system-reboot i-0123456789abcdef0 --in 10m
  ovenbird-lab announce system-reboot i-0123456789abcdef0 --cancel
  ovenbird-lab announce lifecycle-state i-0123456789abcdef0 --state Warmed:Stopped`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().DurationVar(&in, "in", noticeTime, "time until an interruption, or maintenance at the earliest")
	cmd.Flags().StringVar(&n.State, "state", "", "target lifecycle state, such as InService or Terminated")
	cmd.Flags().BoolVar(&n.Cancel, "cancel", false, "withdraw what was announced")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n.Event = args[0]
		scheduled := n.Event != fleet.Rebalance && n.Event != fleet.LifecycleState && !n.Cancel
		if scheduled || cmd.Flags().Changed("in") {
			n.In = in
		}
		if err := n.Check(); err != nil {
			return cli.Usage(fmt.Errorf("announce: %w", err))
		}
		dir, _, err := p.running()
		if err != nil {
			return err
		}
		a := control.Announcement{Instance: args[1], Notice: n}
		if err := control.Client(dir.Control()).Announce(cmd.Context(), a); err != nil {
			return fmt.Errorf("announce: %w", err)
		}
		return output.Print(cmd.OutOrStdout(), a, func(w io.Writer) error {
			switch {
			case n.Cancel:
				_, err = fmt.Fprintf(w, "%s: %s is withdrawn\n", a.Instance, n.Event)
			case scheduled:
				_, err = fmt.Fprintf(w, "%s: %s is announced for %s from now\n", a.Instance, n.Event, n.In)
			default:
				_, err = fmt.Fprintf(w, "%s: %s is announced\n", a.Instance, n.Event)
			}
			return err
		})
	}
	return cmd
}

func expectSignalCommand(p *place) *cobra.Command {
	count, limit := 1, 5*time.Minute
	cmd := &cobra.Command{
		Use:   "expect-signal STACK RESOURCE",
		Short: "Wait until instances signal a resource of a stack",
		Long: `Wait until instances have signalled a resource with CloudFormation's SignalResource, and
print the signals. While the command waits the stack and the resource exist for them; the
lab has no other stacks. A signal of failure ends the wait with an error.`,
		Example: `  ovenbird-lab expect-signal workers Nodes --count 2 --timeout 10m`,
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().IntVar(&count, "count", count, "signals to wait for")
	cmd.Flags().DurationVar(&limit, "timeout", limit, "how long to wait")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if count < 1 || limit <= 0 {
			return cli.Usage(errors.New("expect-signal: --count and --timeout are above 0"))
		}
		dir, _, err := p.running()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), limit)
		defer cancel()
		var list []cloudformation.Signal
		err = progress.New(os.Stderr).Do("waiting for signals to "+args[1]+" of stack "+args[0], func() (err error) {
			list, err = awaitSignals(ctx, control.Client(dir.Control()), args[0], args[1], count)
			return err
		})
		if err != nil {
			return fmt.Errorf("expect-signal: %w", err)
		}
		return output.Print(cmd.OutOrStdout(), list, func(w io.Writer) error {
			for _, s := range list {
				if _, err := fmt.Fprintf(w, "%s\t%s\n", s.ID, s.Status); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

// awaitSignals makes a resource known until it has its signals, all of success.
func awaitSignals(ctx context.Context, lab control.Client, stack, resource string, count int) (list []cloudformation.Signal, err error) {
	if err := lab.Expect(ctx, stack, resource); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Forget(context.WithoutCancel(ctx), stack, resource)) }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d signals came: %w", len(list), count, ctx.Err())
		}
		if list, err = lab.Signals(ctx, stack, resource); err != nil {
			return nil, err
		}
		if n := slices.IndexFunc(list, func(s cloudformation.Signal) bool { return s.Status == cloudformation.Failure }); n >= 0 {
			return nil, fmt.Errorf("%s signalled failure", list[n].ID)
		}
		if len(list) >= count {
			return list, nil
		}
	}
}
