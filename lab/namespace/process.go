package namespace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Processes lists the processes inside the namespace.
func Processes(name string) ([]int, error) {
	ns, err := identify(name)
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err == nil && ns.holds(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Holds tells whether the process is inside the namespace.
func Holds(name string, pid int) (bool, error) {
	ns, err := identify(name)
	if err != nil {
		return false, err
	}
	return ns.holds(pid), nil
}

// identity is what tells one namespace from another.
type identity struct{ dev, inode uint64 }

func identify(name string) (identity, error) {
	var s unix.Stat_t
	if err := unix.Stat(Path(name), &s); err != nil {
		return identity{}, fmt.Errorf("look at namespace %s: %w", name, err)
	}
	return identity{s.Dev, s.Ino}, nil
}

// holds is false for a process that is gone, and for a zombie, which has no namespace.
func (id identity) holds(pid int) bool {
	var s unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &s)
	return err == nil && identity{s.Dev, s.Ino} == id
}

// Clear ends every process inside the namespace: SIGTERM, and SIGKILL for those that are
// still there after grace. It returns when none is left.
func Clear(ctx context.Context, name string, grace time.Duration) error {
	ns, err := identify(name)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(grace)
	for signal := unix.SIGTERM; ; {
		pids, err := Processes(name)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("end the processes in namespace %s: %d left: %w", name, len(pids), err)
		}
		wait := time.Until(deadline)
		if wait <= 0 {
			// After a kill, processes that others started meanwhile get another round.
			signal, wait = unix.SIGKILL, time.Second
		}
		if err := ns.end(pids, signal, wait); err != nil {
			return fmt.Errorf("end the processes in namespace %s: %w", name, err)
		}
	}
}

// end signals the processes and waits until all are gone or the time is up. It holds each
// by a pidfd, so that a number that is used again is never hit.
func (id identity) end(pids []int, signal unix.Signal, wait time.Duration) error {
	var waiting []unix.PollFd
	defer func() {
		for _, p := range waiting {
			_ = unix.Close(int(p.Fd))
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open process %d: %w", pid, err)
		}
		if !id.holds(pid) {
			_ = unix.Close(fd)
			continue
		}
		waiting = append(waiting, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return awaitAll(waiting, wait)
}

func awaitAll(waiting []unix.PollFd, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	pending := append([]unix.PollFd(nil), waiting...)
	for len(pending) > 0 {
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		if _, err := unix.Poll(pending, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for processes to end: %w", err)
		}
		alive := pending[:0]
		for _, p := range pending {
			if p.Revents == 0 {
				alive = append(alive, p)
			}
		}
		pending = alive
	}
	return nil
}
