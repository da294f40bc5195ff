// Package image is the Packer builder ovenbird-image. It lays a Debian root file system
// out in a directory, lets provisioners work in it, and packs it into a disk that boots
// through UEFI: a GPT, an EFI system partition that holds a unified kernel image, and a
// root that is read-only and verified, or ext4. It starts no virtual machine, attaches no loop device and mounts nothing
// that another process can see; a build that fails or is cancelled leaves nothing.
package image

import (
	"context"
	"errors"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/sys/unix"
)

// BuilderID marks artifacts of this builder for post-processors.
const BuilderID = "ovenbird.image"

// Builder makes a disk as its template says. It is a packer.Builder.
type Builder struct{ config Config }

// ConfigSpec describes the template's fields to Packer.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare checks the template.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	return nil, nil, b.config.prepare(raws...)
}

// Run bakes the disk.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	// The user's umask has no say in the modes of the image's files. Packer gives each
	// builder a process of its own.
	defer unix.Umask(unix.Umask(0o022))
	bake := &bake{config: &b.config, ui: ui}
	state := new(multistep.BasicStateBag)
	state.Put("ui", ui)
	state.Put("hook", hook)
	state.Put("generated_data", map[string]any{"ConnType": "chroot"})

	steps := []multistep.Step{
		&stepWorkspace{bake},
		&stepPackages{bake},
		&stepTools{bake},
		&stepRoot{bake},
		&stepCommunicator{bake},
		&commonsteps.StepProvision{},
		&stepSeal{bake},
		&stepRecord{bake},
		&stepSBOM{bake},
		&stepProvenance{bake},
		&stepKernel{bake},
		&stepVerity{bake},
		&stepInspect{bake},
		&stepUKI{bake},
		&stepDisk{bake},
		&stepAttest{bake},
		&stepPublish{bake},
	}
	commonsteps.NewRunner(steps, b.config.PackerConfig, ui).Run(ctx, state)

	if err, ok := state.GetOk("error"); ok {
		return nil, err.(error)
	}
	if _, ok := state.GetOk(multistep.StateCancelled); ok {
		return nil, errors.New("the build was cancelled")
	}
	if _, ok := state.GetOk(multistep.StateHalted); ok {
		return nil, errors.New("the build was halted")
	}
	return bake.artifact(state.Get("generated_data")), nil
}
