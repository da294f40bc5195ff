package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/initrd"
)

// builtIn are the kernel's parts between the firmware and the root file system. They
// must be built into it: the initrd, if there is one at all, has no drivers.
var builtIn = []string{"nvme", "nvme-core", "ext4"}

// stepKernel takes the kernel out of the root file system, where nothing boots from, and
// makes the initrd that leads to a verified root.
type stepKernel struct{ *bake }

// Run takes the kernel.
func (s *stepKernel) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.take(); err != nil {
		state.Put("error", err)
		return multistep.ActionHalt
	}
	return multistep.ActionContinue
}

func (s *stepKernel) take() error {
	kernel, err := findKernel(s.root.Dir)
	if err != nil {
		return err
	}
	s.kernel = kernel
	if err := os.Rename(filepath.Join(s.root.Dir, "boot/vmlinuz-"+kernel), s.file(kernelFile)); err != nil {
		return fmt.Errorf("take the kernel: %w", err)
	}
	if err := emptyBoot(s.root.Dir); err != nil {
		return err
	}
	if s.config.RootFilesystem == rootExt4 {
		return nil
	}
	f, err := os.Create(s.file(initrdFile))
	if err != nil {
		return fmt.Errorf("make the initrd: %w", err)
	}
	return errors.Join(initrd.Write(f, filepath.Join(s.root.Dir, "usr/lib/modules", kernel)), f.Close())
}

// findKernel returns the version of the tree's only kernel.
func findKernel(root string) (string, error) {
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return "", fmt.Errorf("find the kernel: %w", err)
	}
	if len(kernels) != 1 {
		return "", fmt.Errorf("find the kernel: want one in /boot, there are %d: install exactly one linux-image package", len(kernels))
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	list, err := os.Open(filepath.Join(root, "usr/lib/modules", version, "modules.builtin"))
	if err != nil {
		return "", fmt.Errorf("find what is built into kernel %s: %w", version, err)
	}
	defer list.Close()
	missing := map[string]bool{}
	for _, name := range builtIn {
		missing[name+".ko"] = true
	}
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		delete(missing, path.Base(lines.Text()))
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find what is built into kernel %s: %w", version, err)
	}
	for name := range missing {
		return "", fmt.Errorf("kernel %s cannot reach the root file system: %s is not built into it; use linux-image-cloud-amd64", version, name)
	}
	return version, nil
}

// emptyBoot removes kernels and initrds; the package manager's other files stay.
func emptyBoot(root string) error {
	for _, pattern := range []string{"boot/vmlinuz*", "boot/initrd*", "vmlinuz*", "initrd*"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("empty /boot: %w", err)
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("empty /boot: %w", err)
			}
		}
	}
	return nil
}

// Cleanup leaves the kernel to stepWorkspace.
func (s *stepKernel) Cleanup(multistep.StateBag) {}
