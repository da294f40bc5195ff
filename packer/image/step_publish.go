package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
)

// stepPublish puts the finished disk and what describes it in their place, each whole or
// not at all.
type stepPublish struct{ *bake }

// Run publishes the disk.
func (s *stepPublish) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	target := filepath.Join(s.config.OutputDirectory, diskName)
	return s.step(state, "Writing "+target, func() error {
		// A signature of an earlier disk would say that somebody has changed this one.
		if err := os.Remove(filepath.Join(s.config.OutputDirectory, attest.SignatureName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("publish the disk: %w", err)
		}
		// The disk comes last: when it is there, so is all that describes it.
		for _, name := range append(slices.Clone(s.published), diskName) {
			if err := syncFile(s.file(name)); err != nil {
				return err
			}
			if err := os.Rename(s.file(name), filepath.Join(s.config.OutputDirectory, name)); err != nil {
				return fmt.Errorf("publish the disk: %w", err)
			}
		}
		return syncFile(s.config.OutputDirectory)
	})
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("publish the disk: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("publish the disk: %w", err)
	}
	return nil
}

// Cleanup keeps the disk: from here on it is the artifact.
func (s *stepPublish) Cleanup(multistep.StateBag) {}
