package image

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/tree"
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
		if s.config.SecureBootKey == "" {
			return nil
		}
		return s.sign(ctx)
	})
}

// sign signs the kernel image in place. A signature carries its time, which is the image's.
func (s *stepUKI) sign(ctx context.Context) error {
	binds := []tree.Bind{{Source: s.work, Target: toolsWork}}
	for name, source := range map[string]string{"sign.key": s.config.SecureBootKey, "sign.crt": s.config.SecureBootCertificate} {
		// The key is shown to the tools and never copied.
		if err := os.WriteFile(s.file(name), nil, 0o600); err != nil {
			return fmt.Errorf("sign the unified kernel image: %w", err)
		}
		binds = append(binds, tree.Bind{Source: source, Target: toolsWork + "/" + name})
	}
	const uki = toolsWork + "/" + ukiFile
	for _, words := range [][]string{
		{"faketime", "-f", s.epoch.UTC().Format(time.DateTime), "sbsign", "--key", toolsWork + "/sign.key", "--cert", toolsWork + "/sign.crt", "--output", uki, uki},
		{"sbverify", "--cert", toolsWork + "/sign.crt", uki},
	} {
		if err := run(ctx, s.tools.Command(ctx, binds, words[0], words[1:]...), words[0]); err != nil {
			return fmt.Errorf("sign the unified kernel image: %w", err)
		}
	}
	return nil
}

// Cleanup leaves the kernel image to stepWorkspace.
func (s *stepUKI) Cleanup(multistep.StateBag) {}
