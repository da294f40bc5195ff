package image

import (
	"context"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

// stepSBOM lists everything in the image, in it and beside it.
type stepSBOM struct{ *bake }

// Run writes the list.
func (s *stepSBOM) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Listing the packages and Go modules in the image", func() error {
		return s.document(sbom.FileName, func() ([]byte, error) {
			return sbom.Write(sbom.Image{
				Root:     s.root.Dir,
				Packages: s.lock.Installed(),
				Images:   s.lock.Images,
				Epoch:    s.lock.Epoch,
				Plugin:   s.lock.Plugin.Version,
			})
		})
	})
}

// Cleanup has nothing to undo.
func (s *stepSBOM) Cleanup(multistep.StateBag) {}
