package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

// marker is the environment variable by which a process tells for what it was started:
// the run directory joined with the component's name.
const marker = "OVENBIRD_COMPONENT"

// killTimeout is how long a process may survive SIGKILL, which it can only in the kernel.
const killTimeout = 10 * time.Second

// markerTimeout is how long the kernel may take to give a process its environment.
const markerTimeout = 30 * time.Second

// process is a running program, started by this service or an earlier one.
type process struct {
	pid    int
	exited chan struct{}
	err    error // how it exited, when it is a child of this service; valid after exited
}

// launch starts c, and records it in dir for the next service.
func launch(c component.Component, dir, digest string) (*process, error) {
	if err := Prepare(c); err != nil {
		return nil, err
	}
	output, err := openLog(filepath.Join(dir, c.Name+".log"))
	if err != nil {
		return nil, err
	}
	defer output.Close()

	cmd := exec.Command(c.Path, c.Args...) //nolint:noctx // it outlives every context of this service
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = output, output
	// Nothing of the service's environment: a proxy set for its AWS calls must not be
	// between components.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", marker + "=" + filepath.Join(dir, c.Name)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &process{pid: cmd.Process.Pid, exited: make(chan struct{})}
	// Until it is waited for, /proc tells of it, and its number is no other's, even if it has ended.
	err = awaitMarker(p.pid)
	if err == nil {
		err = remember(filepath.Join(dir, c.Name+".pid"), p.pid, cmd.Args, digest)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err != nil {
		return nil, errors.Join(err, p.terminate(0))
	}
	return p, nil
}

// awaitMarker waits until /proc has the environment of a child, by which StopAll finds it. Start
// returns before: exec closes the descriptors, one of which it waits for, ahead of that.
func awaitMarker(pid int) error {
	for deadline := time.Now().Add(markerTimeout); markerOf(pid) == ""; {
		now, err := inspect(pid)
		if err != nil || now.zombie {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not have its environment after %s", pid, markerTimeout)
		}
		time.Sleep(time.Millisecond) // nothing tells of it
	}
	return nil
}

// Prepare writes what c needs on disk before it starts, each file only where it differs.
func Prepare(c component.Component) error {
	if c.DataDir != "" {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return fmt.Errorf("make data directory of %s: %w", c.Name, err)
		}
	}
	for _, file := range c.Files {
		if have, err := os.ReadFile(file.Path); err == nil && slices.Equal(have, file.Content) {
			continue
		}
		if err := renameio.WriteFile(file.Path, file.Content, file.Mode, renameio.WithStaticPermissions(file.Mode)); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}

// attach returns the process pid of an earlier service. It holds on to the process before
// the caller checks what it is, so that the number cannot pass to another one in between.
func attach(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch process %d: %w", pid, err), file.Close())
	}
	p := &process{pid: pid, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		defer file.Close()
		// A pidfd becomes readable when its process ends.
		p.err = conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) //nolint:gosec // file descriptors are small
			return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
		})
	}()
	return p, nil
}

// terminate ends the process and what it started: SIGTERM, and SIGKILL after grace.
func (p *process) terminate(grace time.Duration) error {
	if p.gone() {
		p.sweep()
		return nil
	}
	for _, step := range []struct {
		signal  syscall.Signal
		patient time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, killTimeout}} {
		if err := syscall.Kill(-p.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %s to process %d: %w", step.signal, p.pid, err)
		}
		timer := time.NewTimer(step.patient)
		select {
		case <-p.exited:
			timer.Stop()
			p.sweep()
			return nil
		case <-timer.C:
		}
	}
	return fmt.Errorf("process %d is still there %s after SIGKILL", p.pid, killTimeout)
}

// sweep ends what is left of an ended process's group.
func (p *process) sweep() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// ending says how the process ended. Only a parent learns more than that it did.
func (p *process) ending() string {
	if p.err != nil {
		return p.err.Error()
	}
	return "ended"
}

// stopMarked ends the process pid if it is still the one that carries the marker of name,
// and not another that got its number since.
func stopMarked(pid int, name string, grace time.Duration) error {
	p, err := attach(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	if markerOf(pid) != name {
		return nil
	}
	return p.terminate(grace)
}

// StopAll ends every process that any service started for dir or a directory below it,
// youngest first, so that what depends on another goes before it. It returns their names.
func StopAll(ctx context.Context, dir string, grace time.Duration) ([]string, error) {
	found, err := marked(dir)
	if err != nil {
		return nil, err
	}
	type victim struct {
		name    string
		pid     int
		started uint64
	}
	var victims []victim
	for path, pids := range found {
		for _, pid := range pids {
			if info, err := inspect(pid); err == nil {
				victims = append(victims, victim{path, pid, info.started})
			}
		}
	}
	slices.SortFunc(victims, func(a, b victim) int {
		return cmp.Or(cmp.Compare(b.started, a.started), cmp.Compare(b.pid, a.pid))
	})
	var stopped []string
	for _, v := range victims {
		if err := ctx.Err(); err != nil {
			return stopped, fmt.Errorf("stop %s: %w", v.name, err)
		}
		if err := stopMarked(v.pid, v.name, grace); err != nil {
			return stopped, fmt.Errorf("stop %s: %w", v.name, err)
		}
		if err := os.Remove(v.name + ".pid"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return stopped, fmt.Errorf("forget %s: %w", v.name, err)
		}
		stopped = append(stopped, filepath.Base(v.name))
	}
	return stopped, nil
}

// Running returns the names of the processes that any service started for dir or a
// directory below it and that still run, sorted.
func Running(dir string) ([]string, error) {
	found, err := marked(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for path := range found {
		names = append(names, filepath.Base(path))
	}
	slices.Sort(names)
	return names, nil
}
