// Command ovenbird stands Kubernetes control planes up behind the Amazon EKS API
// (`ovenbird serve`), and is the operator's client to it.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/operator"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func main() { os.Exit(cli.Run(newRootCommand())) }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ovenbird",
		Short: "Kubernetes control planes behind the Amazon EKS API",
	}
	root.AddGroup(
		&cobra.Group{ID: "operate", Title: "Working with clusters, through the EKS API:"},
		&cobra.Group{ID: "run", Title: "Running the service, on its machine:"},
	)
	for _, cmd := range operator.Commands() {
		cmd.GroupID = "operate"
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{newServeCommand(), newHostCommand(), newStopCommand(), newRenderCommand(), newBackupCommand(), newRestoreCommand(), newBackupKeyCommand(), newVerifyCommand()} {
		cmd.GroupID = "run"
		root.AddCommand(cmd)
	}
	return root
}
