package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// ErrClosed is the answer to a command that comes after the build has ended.
var ErrClosed = errors.New("the build has ended: no further command runs in its root file system")

// Communicator lets Packer's provisioners work in a tree. Files go in and out through
// commands in the tree, so that its symbolic links lead where they would lead on the
// machine that it becomes. /run, /dev and /proc last for one command; everything else
// stays in the tree.
type Communicator struct {
	tree   Tree
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // closed, and Add before Wait
	closed  bool
	running sync.WaitGroup
}

// NewCommunicator returns a communicator that works until Close.
func NewCommunicator(ctx context.Context, t Tree) *Communicator {
	ctx, cancel := context.WithCancel(ctx)
	return &Communicator{tree: t, ctx: ctx, cancel: cancel}
}

// Close kills what still runs, waits for its end and refuses any further command.
// Packer returns from a cancelled provisioner before the provisioner does.
func (c *Communicator) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
}

// begin counts a command in, or refuses it.
func (c *Communicator) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.running.Add(1)
	return nil
}

// Start runs a shell command in the tree as root.
func (c *Communicator) Start(ctx context.Context, remote *packersdk.RemoteCmd) error {
	if err := c.begin(); err != nil {
		return err
	}
	// The command ends with the caller's context or with the build, whichever is first.
	ctx, stop := context.WithCancel(ctx)
	context.AfterFunc(c.ctx, stop) //nolint:contextcheck // the second of the two
	cmd := c.tree.Command(ctx, nil, "/bin/sh", "-c", remote.Command)
	cmd.Stdout, cmd.Stderr = remote.Stdout, remote.Stderr
	if err := startWithInput(cmd, remote.Stdin); err != nil {
		stop()
		c.running.Done()
		return fmt.Errorf("start a command in %s: %w", c.tree.Dir, err)
	}
	go func() {
		defer c.running.Done()
		defer stop()
		_ = cmd.Wait() // the status below tells everything
		remote.SetExited(exitStatus(cmd.ProcessState))
	}()
	return nil
}

// startWithInput starts cmd and copies input to it. exec's own copy would make Wait
// last until input ends, which a provisioner's need not do.
func startWithInput(cmd *exec.Cmd, input io.Reader) error {
	if input == nil {
		return cmd.Start()
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer stdin.Close()
		_, _ = io.Copy(stdin, input) // the command may stop reading when it likes
	}()
	return nil
}

// exitStatus is the status that a shell would report.
func exitStatus(state *os.ProcessState) int {
	if code := state.ExitCode(); code >= 0 {
		return code
	}
	return 128 + 9 // only SIGKILL ends process 1 of a PID namespace
}

// run runs a command in the tree and waits for it; what it says goes into the error.
func (c *Communicator) run(doing string, stdin io.Reader, stdout io.Writer, args ...string) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.running.Done()
	var stderr bytes.Buffer
	cmd := c.tree.Command(c.ctx, nil, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", doing, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// Upload writes a file, with the mode of info when there is one.
func (c *Communicator) Upload(dst string, r io.Reader, info *os.FileInfo) error {
	mode := "0644"
	if info != nil {
		mode = fmt.Sprintf("%04o", (*info).Mode().Perm())
	}
	return c.run("upload "+dst, r, nil, "/bin/sh", "-c", `cat >"$1" && chmod "$2" "$1"`, "upload", dst, mode)
}

// UploadDir copies a directory, or what is in it when src ends in a slash.
func (c *Communicator) UploadDir(dst, src string, exclude []string) error {
	dir, base := src, "."
	if !strings.HasSuffix(src, "/") {
		dir, base = path.Split(path.Clean(src))
		if dir == "" {
			dir = "."
		}
	}
	args := []string{"-C", dir, "-c"}
	for _, pattern := range exclude {
		args = append(args, "--exclude="+pattern)
	}
	// Owners of the machine that builds mean nothing on the machine that boots.
	args = append(args, "--owner=0", "--group=0", "--numeric-owner", base)
	tar := exec.CommandContext(c.ctx, "tar", args...)
	var stderr bytes.Buffer
	tar.Stderr = &stderr
	archive, err := tar.StdoutPipe()
	if err != nil {
		return fmt.Errorf("upload %s: %w", src, err)
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("upload %s: %w", src, err)
	}
	unpackErr := c.run("upload "+src+" to "+dst, archive, nil, "/bin/sh", "-c", `mkdir -p "$1" && exec tar -x -C "$1"`, "upload", dst)
	_ = archive.Close() // else tar waits for ever for a reader that failed
	if err := tar.Wait(); err != nil && unpackErr == nil {
		return fmt.Errorf("upload %s: %w: %s", src, err, strings.TrimSpace(stderr.String()))
	}
	return unpackErr
}

// Download reads a file.
func (c *Communicator) Download(src string, w io.Writer) error {
	return c.run("download "+src, nil, w, "cat", "--", src)
}

// DownloadDir copies what is in a directory to one of the machine that builds.
func (c *Communicator) DownloadDir(src, dst string, exclude []string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil { //nolint:gosec // the umask decides, as for any download
		return fmt.Errorf("download %s: %w", src, err)
	}
	args := []string{"tar", "-C", src, "-c"}
	for _, pattern := range exclude {
		args = append(args, "--exclude="+pattern)
	}
	// tar itself keeps names from leading out of dst.
	tar := exec.CommandContext(c.ctx, "tar", "-x", "-C", dst, "--no-same-owner")
	var stderr bytes.Buffer
	tar.Stderr = &stderr
	archive, err := tar.StdinPipe()
	if err != nil {
		return fmt.Errorf("download %s: %w", src, err)
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("download %s: %w", src, err)
	}
	packErr := c.run("download "+src+" to "+dst, nil, archive, append(args, ".")...)
	_ = archive.Close()
	if err := tar.Wait(); err != nil && packErr == nil {
		return fmt.Errorf("download %s to %s: %w: %s", src, dst, err, strings.TrimSpace(stderr.String()))
	}
	return packErr
}
