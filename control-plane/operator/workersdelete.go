package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func deleteWorkersCommand() *cobra.Command {
	var confirm confirmation
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "delete CLUSTER [NAME]", Short: "Delete worker nodes with their stack",
		Long: `Delete the worker nodes in a stack, each after a drain, and everything else in it. What there is
is shown first. The access entry of a role that goes with the stack goes too.`,
		Example: "  ovenbird workers delete demo\n  ovenbird workers delete demo demo-batch --yes",
		Args:    clusterAndStack,
	}
	confirm.add(cmd)
	addFollowTimeout(cmd, &timeout)
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := askOrYes(cmd, &confirm); err != nil {
			return err
		}
		run, err := connectWorkers(cmd, args, &confirm, timeout)
		if err != nil {
			return err
		}
		result, err := run.remove(cmd.Context())
		return printWorkers(cmd, output, result, err)
	}
	return cmd
}

// remove deletes the stack.
func (r *workersRun) remove(ctx context.Context) (workersResult, error) {
	now, err := r.stack.Describe(ctx)
	if err != nil {
		return workersResult{}, workersError(err)
	}
	remaining, err := r.stack.Remaining(ctx, now)
	if err != nil {
		return workersResult{}, workersError(err)
	}
	set := workers.ChangeSet{Changes: remaining, Parameters: []workers.ParameterChange{}}
	if err := showChanges(r.cmd.ErrOrStderr(), set); err != nil {
		return workersResult{}, err
	}
	question := fmt.Sprintf("Delete stack %s with all of this?", now.Name)
	if err := r.confirm.ask(ctx, r.cmd.InOrStdin(), r.cmd.ErrOrStderr(), question); err != nil {
		return workersResult{}, err
	}
	operation, err := r.stack.Delete(ctx, now)
	if err != nil {
		return workersResult{}, workersError(err)
	}
	outcome, err := r.follow(ctx, operation)
	result := resultOf(r.stack, set, outcome)
	result.Changed = true
	if err == nil {
		var roles []string
		for _, c := range remaining {
			if c.Type == roleType {
				roles = append(roles, roleARN(now.ID, c.PhysicalID))
			}
		}
		err = r.shutOut(ctx, roles)
	}
	return result, err
}

func workersStatusCommand() *cobra.Command {
	var follow bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status CLUSTER [NAME]", Short: "Show worker nodes, and why their last change failed if it did",
		Example: "  ovenbird workers status demo\n  ovenbird workers status demo demo-batch --follow",
		Args:    clusterAndStack,
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "first follow what is under way to its end, and fail if that does")
	addFollowTimeout(cmd, &timeout)
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		run, err := connectWorkers(cmd, args, nil, timeout)
		if err != nil {
			return err
		}
		status, err := run.status(cmd.Context(), follow)
		if status.ID == "" {
			return err
		}
		return errors.Join(output.Print(cmd.OutOrStdout(), status, workersDetails(status)), err)
	}
	return cmd
}

// status is what there is of a stack, at the end of what is under way if that is to be followed.
func (r *workersRun) status(ctx context.Context, follow bool) (workers.Status, error) {
	now, err := r.stack.Describe(ctx)
	if err != nil {
		return workers.Status{}, workersError(err)
	}
	var ended error
	if follow && now.UnderWay() {
		outcome, err := r.follow(ctx, now.Under())
		if outcome.Status == "" {
			return workers.Status{}, err
		}
		ended = err
		if outcome.Status == "DELETE_COMPLETE" {
			now.Status = outcome.Status
			return workers.Status{State: now, Groups: []workers.Group{}}, ended
		}
		if now, err = r.stack.Describe(ctx); err != nil {
			return workers.Status{}, errors.Join(ended, workersError(err))
		}
	}
	status, err := r.stack.Status(ctx, now)
	if err != nil {
		return workers.Status{}, errors.Join(ended, workersError(err))
	}
	return status, ended
}
