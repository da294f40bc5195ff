package disk

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what changes a machine's drives. Tests bring their own.
type Machine interface {
	// Run runs a program to its end with nothing to read, and returns what it printed. An
	// error has the last line of that.
	Run(ctx context.Context, program string, args ...string) (string, error)
	// Mount is mount(2).
	Mount(source, target, fileSystem string, flags uintptr) error
}

// System is this machine.
type System struct{}

// Run implements Machine. The end of ctx kills the program and what it has started.
func (System) Run(ctx context.Context, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, program, args...) //nolint:gosec // programs of this package's choice
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 2 * time.Second
	output, err := command.CombinedOutput()
	if err == nil {
		return string(output), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	said := bytes.TrimSpace(output)
	said = said[bytes.LastIndexByte(said, '\n')+1:]
	return "", fmt.Errorf("%s: %w: %s", strings.Join(append([]string{path.Base(program)}, args...), " "), err, said)
}

// Mount implements Machine.
func (System) Mount(source, target, fileSystem string, flags uintptr) error {
	if err := unix.Mount(source, target, fileSystem, flags, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}
