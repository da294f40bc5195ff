// Package naive makes the image that Ovenbird's is measured against: plain Debian with the
// same agent, components and container images.
package naive

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/node"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
	"github.com/ovenbird-dev/ovenbird/test/debian"
)

// size of the disk, which is the image's default too.
const size = 6 << 30

// Make makes the disk naive.raw in dir, of the node that options describe as a template's
// ovenbird-node provisioner does.
func Make(ctx context.Context, dir string, options map[string]any) (disk string, err error) {
	disk = filepath.Join(dir, "naive.raw")
	return disk, debian.Machine{
		Size:      size,
		Provision: func(ctx context.Context, machine tree.Tree) error { return provision(ctx, machine, options) },
	}.Make(ctx, disk)
}

// provision makes the machine a node, as every Ovenbird node is made.
func provision(ctx context.Context, machine tree.Tree, options map[string]any) error {
	var provisioner node.Provisioner
	if err := provisioner.Prepare(options); err != nil {
		return err
	}
	comm := tree.NewCommunicator(ctx, machine)
	defer comm.Close()
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: os.Stderr, ErrorWriter: os.Stderr}
	return provisioner.Provision(ctx, ui, comm, nil)
}
