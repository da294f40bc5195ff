package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/inspect"
)

// Files that describe the disk, beside it.
const (
	reportText = "report.txt"
	reportJSON = "report.json"
)

// stepAttest says about the disk what can be said only once it is made.
type stepAttest struct{ *bake }

// Run writes the report.
func (s *stepAttest) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Describing the disk", func() error {
		disk, err := scan(ctx, s.disk())
		if err != nil {
			return err
		}
		return s.report(disk)
	})
}

func (s *stepAttest) report(disk content) error {
	sizes, err := s.sizes(disk)
	if err != nil {
		return err
	}
	report := inspect.NewReport(s.controls, s.usage, sizes)
	text, err := report.JSON()
	if err != nil {
		return err
	}
	if err := s.beside(reportJSON, text); err != nil {
		return err
	}
	s.ui.Message(fmt.Sprintf("%s; %d MiB, see %s", report.Summary, sizes.Written/mib, filepath.Join(s.config.OutputDirectory, reportText)))
	return s.beside(reportText, []byte(report.Text()))
}

func (s *stepAttest) sizes(disk content) (inspect.Sizes, error) {
	sizes := inspect.Sizes{Disk: s.config.diskBytes, Written: disk.written, Snapshot: disk.snapshot}
	files := map[string]*int64{ukiFile: &sizes.Kernel}
	if s.config.RootFilesystem == rootVerity {
		files[rootFile], files[verityFile] = &sizes.Root, &sizes.Hashes
	}
	for name, size := range files {
		info, err := os.Stat(s.file(name))
		if err != nil {
			return sizes, fmt.Errorf("measure the image: %w", err)
		}
		*size = info.Size()
	}
	if s.config.RootFilesystem == rootVerity {
		l, err := verityLayout(s.config.diskBytes, sizes.Root, sizes.Hashes)
		if err != nil {
			return sizes, err
		}
		sizes.Data = l.data.size
	}
	return sizes, nil
}

// Cleanup leaves the files to stepPublish and stepWorkspace.
func (s *stepAttest) Cleanup(multistep.StateBag) {}
