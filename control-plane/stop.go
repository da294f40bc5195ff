package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// stopTimeout is for the service and all clusters together.
const stopTimeout = 5 * time.Minute

func newStopCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the service and every control plane on this machine, and keep the data",
		Long: `Stop the service and every control plane on this machine, and keep the data.
The next ` + "`ovenbird serve`" + ` with the same state directory starts the same clusters again.`,
		Example: "  ovenbird stop --state-dir .ovenbird/control-plane",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", defaultStateDir, "state directory of the service")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), stopTimeout)
		defer cancel()
		stopped, err := stop(ctx, stateDir)
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), stopped, func(w io.Writer) error {
			line := "nothing was running"
			if len(stopped) > 0 {
				line = "stopped " + strings.Join(stopped, ", ")
			}
			_, err := fmt.Fprintln(w, line)
			return err
		})
	}
	return cmd
}

// stop ends the service and then what it left running, and returns the names of the latter.
func stop(ctx context.Context, stateDir string) ([]string, error) {
	stopped := []string{}
	dir, err := trueName(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return stopped, nil
	}
	if err != nil {
		return nil, err
	}
	// Held meanwhile, so that no new service starts what is being stopped.
	mine, err := endInstance(ctx, dir)
	if err != nil {
		return nil, err
	}
	found, err := supervise.StopAll(ctx, dir, supervise.Production().Grace)
	return append(stopped, found...), errors.Join(err, mine.release())
}
