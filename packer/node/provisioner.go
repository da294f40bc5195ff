package node

import (
	"context"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

type Provisioner struct{}

func (p *Provisioner) ConfigSpec() hcldec.ObjectSpec { return hcldec.ObjectSpec{} }
func (p *Provisioner) Prepare(raws ...any) error     { return nil }
func (p *Provisioner) Provision(ctx context.Context, ui packersdk.Ui, comm packersdk.Communicator, generated map[string]any) error {
	return nil
}
