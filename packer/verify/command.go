package verify

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// Command is the command that verifies a disk.
func Command(program string) *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "verify DISK",
		Short: "Recompute everything that is said about a disk, and tell whether it holds",
		Long: `Reads a disk that ovenbird-image has baked, with the files that lie beside it, and checks
the signature, the provenance, the lock and the SBOM, the partition table, the root hash in
the kernel image, each block of the root file system against it, and the programs in that
against the lock. It needs no root, and changes nothing. It exits with 1 when a check fails.`,
		Example: fmt.Sprintf("  %[1]s verify .ovenbird/image/disk.raw\n  %[1]s verify --key signing.pub --output json disk.raw", program),
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&o.Key, "key", "", "the public key, in PEM, that the provenance must be signed with")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Disk = args[0]
		tell := func(Check) {}
		if output.String() == "table" {
			tell = func(c Check) { printCheck(cmd.OutOrStdout(), c) }
		}
		report, err := Run(cmd.Context(), o, tell)
		if err != nil {
			return err
		}
		// For people every line is printed already, as soon as it was known.
		if err := output.Print(cmd.OutOrStdout(), report, func(io.Writer) error { return nil }); err != nil {
			return err
		}
		if !report.OK {
			return errors.New(o.Disk + " is not what it is said to be")
		}
		return nil
	}
	return cmd
}

func printCheck(w io.Writer, c Check) {
	fmt.Fprintf(w, "%-7s  %-22s  %s\n", c.Outcome, c.Name, c.Detail)
	if c.Remedy != "" {
		fmt.Fprintf(w, "%-7s  %-22s  -> %s\n", "", "", c.Remedy)
	}
}
