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

// ended is one instance that terminate-instances printed.
type ended struct {
	ID       string `json:"instanceId"`
	Previous string `json:"previousState"`
	Current  string `json:"currentState"`
}

func terminateInstancesCommand(p *place) *cobra.Command {
	var skip, wait bool
	cmd := &cobra.Command{
		Use:   "terminate-instances ID...",
		Short: "End instances for good",
		Long: `Ask instances to shut down and remove them. Without --wait that happens in the
background.`,
		Example: `  ovenbird-lab terminate-instances i-0123456789abcdef0
  ovenbird-lab terminate-instances --skip-os-shutdown --wait i-0123456789abcdef0`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&skip, "skip-os-shutdown", false, "do not let the guest shut down first")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the instances are gone")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		client, _, err := p.client()
		if err != nil {
			return err
		}
		out, err := client.TerminateInstances(cmd.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids, SkipOsShutdown: &skip})
		if err != nil {
			return fmt.Errorf("terminate-instances: %w", plain(err))
		}
		list := []ended{}
		for _, c := range out.TerminatingInstances {
			list = append(list, ended{aws.ToString(c.InstanceId), string(c.PreviousState.Name), string(c.CurrentState.Name)})
		}
		if wait {
			err := progress.New(os.Stderr).Do("waiting for "+strings.Join(ids, ", ")+" to end", func() error {
				return awaitEnd(cmd.Context(), client, ids)
			})
			if err != nil {
				return fmt.Errorf("terminate-instances: %w", err)
			}
			for n := range list {
				list[n].Current = string(types.InstanceStateNameTerminated)
			}
		}
		return output.Print(cmd.OutOrStdout(), list, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for _, e := range list {
				fmt.Fprintf(t, "%s\t%s -> %s\n", e.ID, e.Previous, e.Current)
			}
			return t.Flush()
		})
	}
	return cmd
}

func awaitEnd(ctx context.Context, client *ec2.Client, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	_, err := await(ctx, client, ids, func(i types.Instance) (bool, error) {
		return i.State.Name == types.InstanceStateNameTerminated, nil
	})
	return err
}
