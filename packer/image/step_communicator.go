package image

import (
	"context"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// stepCommunicator gives provisioners their way into the root file system.
type stepCommunicator struct{ *bake }

// Run opens the communicator.
func (s *stepCommunicator) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	// Not the build's context: a cleanup provisioner runs after a cancellation.
	s.comm = tree.NewCommunicator(context.WithoutCancel(ctx), s.root)
	state.Put("communicator", s.comm)
	return multistep.ActionContinue
}

// Cleanup ends every command that a provisioner has left running.
func (s *stepCommunicator) Cleanup(multistep.StateBag) {
	if s.comm != nil {
		s.comm.Close()
	}
}
