// Command packer-plugin-ovenbird is the Packer plugin of Ovenbird: the builder
// ovenbird-image and the provisioner ovenbird-node.
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/version"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/image"
	"github.com/ovenbird-dev/ovenbird/packer/node"
)

func main() {
	set := plugin.NewSet()
	set.RegisterBuilder("image", new(image.Builder))
	set.RegisterProvisioner("node", new(node.Provisioner))
	set.SetVersion(version.NewRawVersion(cli.BuildVersion().Release))
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
