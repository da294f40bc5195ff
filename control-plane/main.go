// Command ovenbird stands Kubernetes control planes up behind the Amazon EKS API
// (`ovenbird serve`), and is the operator's client to it.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func main() { os.Exit(cli.Run(newRootCommand())) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ovenbird",
		Short: "Kubernetes control planes behind the Amazon EKS API",
		Args:  cobra.NoArgs,
	}
	root.AddCommand(newServeCommand(), newStopCommand(), newRenderCommand())
	return root
}
