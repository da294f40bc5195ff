// Package pidfd holds other programs' processes by descriptor. A process number may be
// used again when its process has ended; a descriptor never means another process.
package pidfd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is what Open answers for a process that has ended.
var ErrGone = errors.New("the process has ended")

// look is how often a wait looks whether its context has ended.
const look = 100 * time.Millisecond

// Process is a process, alive or not. It need not be a child of this one.
type Process struct {
	mu sync.Mutex // guards fd against its close
	fd int        // -1 once closed
}

// Open takes hold of the process that has the number now. The caller makes sure, after
// that, that it is the one that was meant.
func Open(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	// EINVAL: the number is a thread's.
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("open process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &Process{fd: fd}, nil
}

// Signal sends a signal. To a process that has ended it does nothing.
func (p *Process) Signal(signal unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(p.fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s: %w", signal, err)
	}
	return nil
}

// Wait returns when the process has ended, or with the context's error.
func (p *Process) Wait(ctx context.Context) error {
	for {
		poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}} //nolint:gosec // descriptors are small
		n, err := unix.Poll(poll, int(look.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for a process: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// Close lets go of the process. Nothing but Signal may be called after it.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}
