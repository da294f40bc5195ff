package image

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// stepUKI packs the kernel, its command line and the initrd into one EFI program.
type stepUKI struct{ *bake }

// Run makes the unified kernel image.
func (s *stepUKI) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Making the unified kernel image", func() error {
		args := []string{
			"build",
			"--linux=" + toolsWork + "/" + kernelFile,
			"--cmdline=" + s.commandLine(),
			"--os-release=@" + toolsWork + "/root/usr/lib/os-release",
			"--uname=" + s.kernel,
			"--output=" + toolsWork + "/" + ukiFile,
		}
		if s.config.RootFilesystem == rootVerity {
			args = append(args, "--initrd="+toolsWork+"/"+initrdFile)
		}
		if err := s.inTools(ctx, "ukify", args...); err != nil {
			return fmt.Errorf("make the unified kernel image: %w", err)
		}
		return nil
	})
}

// Cleanup leaves the kernel image to stepWorkspace.
func (s *stepUKI) Cleanup(multistep.StateBag) {}
