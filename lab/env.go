package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/access"
)

func envCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the environment in which AWS clients talk to the lab",
		Long: `Print the environment in which the AWS CLI and SDKs on this machine talk to the lab, for
a shell to evaluate. The access key is the lab's administrator's. HTTPS_PROXY leads into
the lab and nowhere else.`,
		Example: `  eval "$(ovenbird-lab env)"
  aws ec2 describe-instances`,
		Args: cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, lab, err := p.running()
		if err != nil {
			return err
		}
		env, err := access.Outside(dir, lab, p.plan)
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), env, func(w io.Writer) error {
			_, err := fmt.Fprint(w, access.Exports(env))
			return err
		})
	}
	return cmd
}
