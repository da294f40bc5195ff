package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/lifecycle"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func statusCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far the node is, and the timeline of its start",
		Long: `status shows each phase of joining: since when, how long, how many attempts, the last
error and the next try, and what to do about a phase that fails. Times are in seconds since
the kernel started.`,
		Example: `  ovenbird-agent status
  ovenbird-agent status --output json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&root, "root", "/", "the node's root directory")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := boot.ReadStatus(rootfs.Root(root))
		if err != nil {
			return err
		}
		going, err := lifecycle.ReadState(rootfs.Root(root))
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), status, func(w io.Writer) error {
			if headline := going.Headline(); headline != "" {
				fmt.Fprintln(w, headline)
			}
			return status.Print(w, boot.SystemClock{}.SinceBoot())
		})
	}
	return cmd
}
