package namespace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/pidfd"
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
		if err := ns.end(ctx, pids, signal, wait); err != nil {
			return fmt.Errorf("end the processes in namespace %s: %w", name, err)
		}
	}
}

// end signals the processes and waits until all are gone or the time is up.
func (id identity) end(ctx context.Context, pids []int, signal unix.Signal, wait time.Duration) error {
	var signalled []*pidfd.Process
	for _, pid := range pids {
		process, err := pidfd.Open(pid)
		if errors.Is(err, pidfd.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		defer process.Close()
		if !id.holds(pid) {
			continue // the number was used again, outside
		}
		if err := process.Signal(signal); err != nil {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
		signalled = append(signalled, process)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, process := range signalled {
		if err := process.Wait(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
