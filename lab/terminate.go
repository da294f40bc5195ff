package main

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

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
		list := changes(out.TerminatingInstances)
		if wait {
			if err := list.await(cmd.Context(), client, types.InstanceStateNameTerminated); err != nil {
				return fmt.Errorf("terminate-instances: %w", err)
			}
		}
		return output.Print(cmd.OutOrStdout(), list, list.print)
	}
	return cmd
}
