package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
)

// stateChanges are what stop-, start- and terminate-instances print.
type stateChanges []stateChange

type stateChange struct {
	ID       string `json:"instanceId"`
	Previous string `json:"previousState"`
	Current  string `json:"currentState"`
}

func changes(of []types.InstanceStateChange) stateChanges {
	list := stateChanges{}
	for _, c := range of {
		list = append(list, stateChange{aws.ToString(c.InstanceId), string(c.PreviousState.Name), string(c.CurrentState.Name)})
	}
	return list
}

// await waits until all are in a state, and takes note of it.
func (s stateChanges) await(ctx context.Context, client *ec2.Client, want types.InstanceStateName) error {
	var ids []string
	for _, c := range s {
		ids = append(ids, c.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	err := progress.New(os.Stderr).Do("waiting for "+strings.Join(ids, ", ")+" to be "+string(want), func() error {
		_, err := await(ctx, client, ids, func(i types.Instance) (bool, error) { return i.State.Name == want, nil })
		return err
	})
	if err != nil {
		return err
	}
	for n := range s {
		s[n].Current = string(want)
	}
	return nil
}

func (s stateChanges) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range s {
		fmt.Fprintf(t, "%s\t%s -> %s\n", c.ID, c.Previous, c.Current)
	}
	return t.Flush()
}

func stopInstancesCommand(p *place) *cobra.Command {
	var skip, wait bool
	cmd := &cobra.Command{
		Use:   "stop-instances ID...",
		Short: "Shut instances down, and keep their volumes and addresses",
		Long: `Ask instances to shut down; those that do not within two minutes are switched off. Without
--wait that happens in the background.`,
		Example: `  ovenbird-lab stop-instances --wait i-0123456789abcdef0`,
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&skip, "skip-os-shutdown", false, "do not let the guest shut down first")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the instances are stopped")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, _, err := p.client()
		if err != nil {
			return err
		}
		out, err := client.StopInstances(cmd.Context(), &ec2.StopInstancesInput{InstanceIds: ids, SkipOsShutdown: &skip})
		if err != nil {
			return fmt.Errorf("stop-instances: %w", plain(err))
		}
		list := changes(out.StoppingInstances)
		if wait {
			if err := list.await(cmd.Context(), client, types.InstanceStateNameStopped); err != nil {
				return fmt.Errorf("stop-instances: %w", err)
			}
		}
		return output.Print(cmd.OutOrStdout(), list, list.print)
	}
	return cmd
}

func startInstancesCommand(p *place) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:     "start-instances ID...",
		Short:   "Start stopped instances, with the volumes and addresses that they have",
		Example: `  ovenbird-lab start-instances --wait i-0123456789abcdef0`,
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the instances' machines run")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, _, err := p.client()
		if err != nil {
			return err
		}
		out, err := client.StartInstances(cmd.Context(), &ec2.StartInstancesInput{InstanceIds: ids})
		if err != nil {
			return fmt.Errorf("start-instances: %w", plain(err))
		}
		list := changes(out.StartingInstances)
		if wait {
			if err := list.await(cmd.Context(), client, types.InstanceStateNameRunning); err != nil {
				return fmt.Errorf("start-instances: %w", err)
			}
		}
		return output.Print(cmd.OutOrStdout(), list, list.print)
	}
	return cmd
}
