package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Artifact is a baked disk.
type Artifact struct {
	disk   string
	beside []string       // files that describe it
	state  map[string]any // plain values: it crosses Packer's RPC
}

// BuilderId names the builder; Packer fixes the method's name.
func (a *Artifact) BuilderId() string { return BuilderID }

// Files lists the disk, and then what describes it.
func (a *Artifact) Files() []string { return append([]string{a.disk}, a.beside...) }

// Id is the disk's path.
func (a *Artifact) Id() string { return a.disk }

func (a *Artifact) String() string { return fmt.Sprintf("a bootable disk: %s", a.disk) }

// State answers post-processors: disk_size (bytes), kernel, kernel_command_line,
// root_filesystem, root_hash (hexadecimal; empty for ext4), secure_boot_certificate (the
// file; empty for a kernel image that is not signed), generated_data.
func (a *Artifact) State(name string) any { return a.state[name] }

// Destroy removes the disk and what describes it.
func (a *Artifact) Destroy() error {
	var errs []error
	for _, file := range a.Files() {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the disk: %w", err))
		}
	}
	return errors.Join(errs...)
}
