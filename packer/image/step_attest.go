package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/sbom"
)

// Files that describe the disk, beside it.
const (
	reportText = "report.txt"
	reportJSON = "report.json"
)

// stepProvenance states in the image what it is made from. The disk cannot be named there,
// as it holds the statement, nor what the template accepts, which the lock does not decide.
type stepProvenance struct{ *bake }

// Run writes the statement.
func (s *stepProvenance) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	err := func() error {
		statement, err := s.state(nil)
		if err != nil {
			return err
		}
		inImage := filepath.Join(s.root.Dir, documentsDirectory, attest.FileName)
		if err := os.WriteFile(inImage, statement, 0o644); err != nil { //nolint:gosec // a description holds no secret
			return fmt.Errorf("write the provenance into the image: %w", err)
		}
		return nil
	}()
	if err != nil {
		state.Put("error", err)
		return multistep.ActionHalt
	}
	return multistep.ActionContinue
}

// Cleanup has nothing to undo.
func (s *stepProvenance) Cleanup(multistep.StateBag) {}

// state makes the statement about the lock, the SBOM and subjects besides, of a bake with
// exceptions.
func (b *bake) state(exceptions []Except, subjects ...attest.Resource) ([]byte, error) {
	var lockSum string
	for _, name := range []string{lock.FileName, sbom.FileName} {
		text, err := os.ReadFile(b.file(name))
		if err != nil {
			return nil, fmt.Errorf("write the provenance: %w", err)
		}
		sum := sha256.Sum256(text)
		subjects = append(subjects, attest.File(name, hex.EncodeToString(sum[:])))
		if name == lock.FileName {
			lockSum = hex.EncodeToString(sum[:])
		}
	}
	var except []attest.Exception
	for _, e := range exceptions {
		except = append(except, attest.Exception(e))
	}
	return attest.State(b.lock, lockSum, except, subjects...)
}

// stepAttest says about the disk what can be said only once it is made.
type stepAttest struct{ *bake }

// Run writes the report and the provenance, and signs that.
func (s *stepAttest) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	return s.step(state, "Describing the disk", func() error {
		disk, err := scan(ctx, s.disk())
		if err != nil {
			return err
		}
		if err := s.report(disk); err != nil {
			return err
		}
		return s.attest(disk)
	})
}

func (s *stepAttest) attest(disk content) error {
	statement, err := s.state(s.config.Exceptions, attest.File(diskName, disk.sha256))
	if err != nil {
		return err
	}
	if err := s.beside(attest.FileName, statement); err != nil {
		return err
	}
	if s.config.SigningKey == "" {
		return nil
	}
	key, err := attest.ReadKey(s.config.SigningKey)
	if err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	signature, err := attest.Sign(key, statement)
	if err != nil {
		return err
	}
	return s.beside(attest.SignatureName, signature)
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
	s.ui.Say(fmt.Sprintf("%s; %d MiB, see %s", report.Summary, sizes.Written/mib, filepath.Join(s.config.OutputDirectory, reportText)))
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
