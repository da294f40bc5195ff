package boot

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Commands runs programs. Tests bring their own.
type Commands interface {
	// Run runs the program at path to its end, in "/", with nothing to read, and writes
	// what it prints to output. An error means that it did not end by itself: it could not
	// be started, or a signal or the end of ctx has ended it.
	Run(ctx context.Context, path string, environ []string, output io.Writer) (exitStatus int, err error)
}

// SystemCommands runs them on this machine, each in a process group of its own, all of
// which the end of ctx kills.
type SystemCommands struct{}

// Run implements Commands.
func (SystemCommands) Run(ctx context.Context, path string, environ []string, output io.Writer) (int, error) {
	command := exec.CommandContext(ctx, path) //nolint:gosec // running what user-data says is its purpose
	command.Dir, command.Env = "/", environ
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	// What it leaves running may hold its output open; nobody waits for that.
	command.WaitDelay = 2 * time.Second
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		return 0, err
	}
}
