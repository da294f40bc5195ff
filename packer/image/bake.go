package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/debian"
	"github.com/ovenbird-dev/ovenbird/packer/inspect"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/progress"
	"github.com/ovenbird-dev/ovenbird/packer/tree"
)

// bake is what the steps of one build share.
type bake struct {
	config *Config
	ui     packersdk.Ui

	mmdebstrap string // the program; stepWorkspace

	lock  lock.Lock // what the image is made from: grows as the build goes on, whole from stepRecord on
	epoch time.Time // the image's date, for everything that stamps: SOURCE_DATE_EPOCH; stepPackages
	apt   debian.Apt

	work   string             // everything that is half-made; stepWorkspace
	tools  tree.Tree          // the Debian tree with the tools; stepTools
	root   tree.Tree          // the machine in the making; stepRoot
	comm   *tree.Communicator // stepCommunicator
	kernel string             // its version; stepKernel

	controls []inspect.Result // stepInspect
	usage    inspect.Usage    // stepInspect

	published []string // names in the work directory of what is to lie beside the disk

	rootHash string // hexadecimal; stepVerity, with a verity root only
}

// Files in the work directory, which the tools see at toolsWork.
const (
	kernelFile = "vmlinuz"
	initrdFile = "initrd.zst"
	rootFile   = "root.erofs"
	verityFile = "root.verity"
	ukiFile    = "uki.efi"
)

const toolsWork = "/mnt"

func (b *bake) file(name string) string { return filepath.Join(b.work, name) }
func (b *bake) disk() string            { return b.file(diskName) }

// beside writes a file that stepPublish puts beside the disk.
func (b *bake) beside(name string, content []byte) error {
	if err := os.WriteFile(b.file(name), content, 0o644); err != nil { //nolint:gosec // anybody may read it
		return fmt.Errorf("write %s: %w", name, err)
	}
	b.published = append(b.published, name)
	return nil
}

// step runs one piece of work with progress and puts its error where Packer looks.
func (b *bake) step(state multistep.StateBag, what string, work func() error) multistep.StepAction {
	if err := progress.Step(b.ui, what, work); err != nil {
		state.Put("error", err)
		return multistep.ActionHalt
	}
	return multistep.ActionContinue
}

// inTools runs a program of the tools tree with the work directory at toolsWork.
func (b *bake) inTools(ctx context.Context, name string, args ...string) error {
	cmd := b.tools.Command(ctx, []tree.Bind{{Source: b.work, Target: toolsWork}}, name, args...)
	return run(ctx, cmd, name)
}

// inRoot runs a shell script in the root file system in the making.
func (b *bake) inRoot(ctx context.Context, doing, script string) error {
	return run(ctx, b.root.Command(ctx, nil, "/bin/sh", "-euc", script), doing)
}

// run runs cmd; the error of a failure carries the end of what it said.
func run(ctx context.Context, cmd *exec.Cmd, doing string) error {
	said := &tail{limit: 4 << 10}
	if cmd.Stdout == nil {
		cmd.Stdout = said
	}
	cmd.Stderr = said
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w:\n%s", doing, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// tail keeps the last limit bytes of what is written to it.
type tail struct {
	limit int
	buf   bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - t.limit; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buf.String() }

// artifact describes the disk that stepPublish has put in place.
func (b *bake) artifact(generated any) *Artifact {
	var beside []string
	for _, name := range b.published {
		beside = append(beside, filepath.Join(b.config.OutputDirectory, name))
	}
	return &Artifact{
		disk:   filepath.Join(b.config.OutputDirectory, diskName),
		beside: beside,
		state: map[string]any{
			"disk_size":               b.config.diskBytes,
			"kernel":                  b.kernel,
			"kernel_command_line":     b.commandLine(),
			"root_filesystem":         b.config.RootFilesystem,
			"root_hash":               b.rootHash,
			"secure_boot_certificate": b.config.SecureBootCertificate,
			"generated_data":          generated,
		},
	}
}

// removeAll removes a directory of the build and says so when it cannot.
func (b *bake) removeAll(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		b.ui.Error(fmt.Sprintf("cannot remove %s: %v; remove it by hand", dir, err))
	}
}
