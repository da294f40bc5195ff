// Command packer-plugin-ovenbird is the Packer plugin of Ovenbird: the builder
// ovenbird-image, the provisioner ovenbird-node, the post-processor ovenbird-ami and the
// data source ovenbird-release.
// Run by a person it has commands of its own, about the disks that it has made.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/version"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/ami"
	"github.com/ovenbird-dev/ovenbird/packer/image"
	"github.com/ovenbird-dev/ovenbird/packer/node"
	"github.com/ovenbird-dev/ovenbird/packer/release"
	"github.com/ovenbird-dev/ovenbird/packer/verify"
)

func main() {
	// How Packer calls a plugin; every other word comes from a person.
	if len(os.Args) > 1 && slices.Contains([]string{"describe", "start"}, os.Args[1]) {
		if err := serve(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(cli.Run(command(filepath.Base(os.Args[0]))))
}

// serve answers Packer.
func serve(args []string) error {
	set := plugin.NewSet()
	set.RegisterBuilder("image", new(image.Builder))
	set.RegisterPostProcessor("ami", new(ami.PostProcessor))
	set.RegisterProvisioner("node", new(node.Provisioner))
	set.RegisterDatasource("release", new(release.Datasource))
	set.SetVersion(version.NewRawVersion(cli.BuildVersion().Release))
	return set.RunCommand(args...)
}

// command is what people run; name is what they call it.
func command(name string) *cobra.Command {
	root := &cobra.Command{
		Use:   name,
		Short: "Commands about node images, beside those that Packer calls the plugin with",
		Long: `The Packer plugin of Ovenbird. Packer runs it by itself when a template names it:

  packer init TEMPLATE
  packer build TEMPLATE

The commands below are for people, and are about what such a build has made.`,
	}
	root.AddCommand(image.RefreshCommand(name))
	root.AddCommand(ami.SweepCommand())
	root.AddCommand(verify.Command(name))
	return root
}
