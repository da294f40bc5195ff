package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

func consoleCommand(p *place) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "console ID",
		Short: "Show what an instance printed on its serial console",
		Example: `  ovenbird-lab console i-0123456789abcdef0
  ovenbird-lab console --follow i-0123456789abcdef0`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the instance ends")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, _, err := p.load()
		if err != nil {
			return err
		}
		if _, err := find(dir, args[0]); err != nil {
			return fmt.Errorf("console: %w", err)
		}
		return showConsole(cmd.Context(), cmd.OutOrStdout(), dir, args[0], follow)
	}
	return cmd
}

func find(dir state.Dir, id string) (fleet.Instance, error) {
	list, err := fleet.Read(dir)
	if err != nil {
		return fleet.Instance{}, err
	}
	for _, i := range list {
		if i.ID == id {
			return i, nil
		}
	}
	return fleet.Instance{}, fmt.Errorf("the lab has no instance %s; `ovenbird-lab status` lists them", id)
}

// showConsole copies the console to w. Following ends with the instance or the context.
func showConsole(ctx context.Context, w io.Writer, dir state.Dir, id string, follow bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var file *os.File
	defer func() { _ = file.Close() }()
	for {
		// Looked at before the copy: what an instance printed until then is in it.
		i, err := find(dir, id)
		over := err != nil || i.State == fleet.Terminated || i.State == fleet.Stopped
		if file == nil {
			if file, err = os.Open(dir.Console(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("console: %w", err)
			}
		}
		if file != nil {
			if _, err := io.Copy(w, file); err != nil {
				return fmt.Errorf("console: %w", err)
			}
		}
		if !follow || over {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
