package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"golang.org/x/sys/unix"
)

const (
	diskName   = "disk.raw"
	workPrefix = ".bake-" // of the directory, in the output directory, that a build works in
)

// stepWorkspace checks that the machine can bake, and makes the directory that
// everything happens in. It lies in the output directory, so that the finished disk
// gets there by a rename. One build at a time has an output directory; what a killed
// build has left in it is removed.
type stepWorkspace struct{ *bake }

// Run makes the workspace.
func (s *stepWorkspace) Run(_ context.Context, state multistep.StateBag) multistep.StepAction {
	if err := s.prepare(state); err != nil {
		state.Put("error", err)
		return multistep.ActionHalt
	}
	return multistep.ActionContinue
}

func (s *stepWorkspace) prepare(state multistep.StateBag) error {
	if os.Geteuid() != 0 {
		return errors.New("ovenbird-image needs root for namespaces and file owners: run packer as root")
	}
	mmdebstrap, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return errors.New("ovenbird-image needs mmdebstrap: apt-get install mmdebstrap")
	}
	s.mmdebstrap = mmdebstrap
	if _, err := os.Stat(keyring); err != nil {
		return errors.New("ovenbird-image needs Debian's keys: apt-get install debian-archive-keyring")
	}
	out := s.config.OutputDirectory
	if _, err := os.Stat(filepath.Join(out, diskName)); err == nil && !s.config.PackerForce {
		return fmt.Errorf("output_directory: %s holds a %s already; build with -force to replace it", out, diskName)
	}
	if _, err := os.Stat(out); errors.Is(err, os.ErrNotExist) {
		state.Put("made_output", true)
	}
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // an image holds no secret
		return fmt.Errorf("output_directory: %w", err)
	}
	lock, err := lockDirectory(out)
	if err != nil {
		return fmt.Errorf("output_directory: another build works in %s: %w", out, err)
	}
	state.Put("output_lock", lock)
	stale, err := filepath.Glob(filepath.Join(out, workPrefix+"*"))
	if err != nil {
		return fmt.Errorf("output_directory: %w", err)
	}
	for _, dir := range stale {
		s.removeAll(dir)
	}
	if s.work, err = os.MkdirTemp(out, workPrefix); err != nil {
		return fmt.Errorf("make a directory to work in: %w", err)
	}
	if s.config.PackerDebug || s.config.PackerOnError == "abort" || s.config.PackerOnError == "ask" {
		s.ui.Say("The root file system comes to lie in " + filepath.Join(s.work, "root"))
	}
	// mkdtemp's 0700 would keep the tools' own users out.
	return os.Chmod(s.work, 0o755) //nolint:gosec // it holds no secret
}

// lockDirectory takes the directory until the file is closed or this process ends.
func lockDirectory(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Cleanup removes the workspace, after success too: the disk has left it by then.
func (s *stepWorkspace) Cleanup(state multistep.StateBag) {
	if s.work != "" {
		s.removeAll(s.work)
	}
	if lock, ok := state.Get("output_lock").(*os.File); ok {
		_ = lock.Close()
	}
	if _, made := state.GetOk("made_output"); made {
		// Fails, as it should, when the disk is in it.
		_ = os.Remove(s.config.OutputDirectory)
	}
}
