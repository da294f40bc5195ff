package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

func statsCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats ID",
		Short: "Show what an instance has read from and written to its volume",
		Long: `Show what an instance has read from and written to its volume since it was powered on. On
EC2 each block of a volume that was made from a snapshot is fetched when it is first
touched; so it is here after ` + "`up --snapshot-rate`" + `.`,
		Example: "  ovenbird-lab stats i-0123456789abcdef0",
		Args:    cobra.ExactArgs(1),
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, _, err := p.load()
		if err != nil {
			return err
		}
		if _, err := find(dir, args[0]); err != nil {
			return fmt.Errorf("stats: %w", err)
		}
		stats, err := vm.ReadStats(cmd.Context(), dir.Instance(args[0]))
		if err != nil {
			return fmt.Errorf("stats: %s: %w", args[0], err)
		}
		return output.Print(cmd.OutOrStdout(), stats, func(w io.Writer) error {
			fmt.Fprintf(w, "read     %8.1f MB in %d operations\nwritten  %8.1f MB in %d operations\n",
				float64(stats.ReadBytes)/1e6, stats.ReadOperations, float64(stats.WrittenBytes)/1e6, stats.WriteOperations)
			if stats.SnapshotBlocks > 0 {
				fmt.Fprintf(w, "fetched  %8.1f MB in %d blocks of the snapshot\n", float64(stats.SnapshotBlocks*vm.SnapshotBlock)/1e6, stats.SnapshotBlocks)
			}
			return nil
		})
	}
	return cmd
}
