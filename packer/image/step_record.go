package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// documentsDirectory is where a node has what describes it, below its root.
const documentsDirectory = "usr/lib/ovenbird"

// stepRecord writes down what the image is made of, in the image and beside it. With a
// lock file that has to be what the lock says.
type stepRecord struct{ *bake }

// Run records.
func (s *stepRecord) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Recording what the image is made of", func() error {
		if err := s.record(ctx); err != nil {
			return fmt.Errorf("record what the image is made of: %w", err)
		}
		text, err := s.lock.Encode()
		if err != nil {
			return err
		}
		// The steps after this one work with the lock as a bake from it would read it.
		if s.lock, err = lock.Decode(text); err != nil {
			return fmt.Errorf("record what the image is made of: %w", err)
		}
		return s.document(lock.FileName, func() ([]byte, error) { return text, nil })
	})
}

func (s *stepRecord) record(ctx context.Context) (err error) {
	if s.lock.Images, err = containerImages(s.root.Dir); err != nil {
		return err
	}
	if s.lock.Components, err = components(ctx, s.root); err != nil {
		return err
	}
	if locked := s.config.locked; locked != nil {
		want := *locked
		if want.Refreshed {
			want.Components, want.Images = s.lock.Components, s.lock.Images
		}
		if changes := lock.Diff(want, s.lock); len(changes) > 0 {
			return fmt.Errorf("it is not what %s says:\n%s\nput back what was used then, or bake without lock_file for a new lock",
				s.config.LockFile, strings.Join(changes, "\n"))
		}
	}
	return nil
}

// document writes a file that describes the image into it, and publishes it with the disk.
func (b *bake) document(name string, encode func() ([]byte, error)) error {
	content, err := encode()
	if err != nil {
		return err
	}
	inImage := filepath.Join(b.root.Dir, documentsDirectory, name)
	if err := os.MkdirAll(filepath.Dir(inImage), 0o755); err != nil { //nolint:gosec // as on any system
		return fmt.Errorf("write /%s/%s: %w", documentsDirectory, name, err)
	}
	for _, file := range []string{inImage, b.file(name)} {
		if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // a description holds no secret
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	b.published = append(b.published, name)
	return nil
}

// Cleanup has nothing to undo.
func (s *stepRecord) Cleanup(multistep.StateBag) {}
