package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/timeline"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func timelineCommand() *cobra.Command {
	var root, svg string
	cmd := &cobra.Command{
		Use:   "timeline [--svg [FILE]]",
		Short: "Show where the time from kernel start to Ready went",
		Long: `timeline shows when each phase of joining started, how long it took, in how many
attempts and with how many bytes of traffic, with the time before the agent as a phase of its
own. With --svg it draws that as a waterfall, to FILE or to standard output. Times are in
seconds since the kernel started.`,
		Example: `  ovenbird-agent timeline
  ovenbird-agent timeline --output json
  ovenbird-agent timeline --svg timeline.svg`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().StringVar(&root, "root", "/", "the node's root directory")
	cmd.Flags().StringVar(&svg, "svg", "", "draw an SVG, to FILE or to standard output")
	cmd.Flags().Lookup("svg").NoOptDefVal = "-"
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && svg != "-":
			return cli.Usage(errors.New("a FILE goes with --svg: ovenbird-agent timeline --svg FILE"))
		case svg != "" && cmd.Flags().Changed("output"):
			return cli.Usage(errors.New("--svg and --output exclude each other"))
		case len(args) == 1:
			svg = args[0]
		}
		status, err := boot.ReadStatus(rootfs.Root(root))
		if err != nil {
			return err
		}
		now := timeline.Latest(status)
		if root == "/" {
			now = boot.SystemClock{}.SinceBoot()
		}
		t := timeline.Of(status, now)
		switch svg {
		case "":
			return output.Print(cmd.OutOrStdout(), t, t.Print)
		case "-":
			_, err := cmd.OutOrStdout().Write(t.SVG())
			return err
		}
		if err := os.WriteFile(svg, t.SVG(), 0o644); err != nil { //nolint:gosec // a drawing to be shown
			return fmt.Errorf("write the drawing: %w", err)
		}
		return nil
	}
	return cmd
}
