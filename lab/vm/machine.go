package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/pidfd"
)

// Machine is a virtual machine that runs or has ended.
type Machine struct {
	dir     string
	qmp     *qmp
	process *pidfd.Process // closed by watch, once it is gone
	halted  chan struct{}
	gone    chan struct{}
	once    sync.Once // closes halted

	mu      sync.Mutex
	unplugs map[string]chan struct{} // closed when the guest has let go of the device
}

// Adopt finds the machine that an earlier process started in dir; ErrNotRunning when
// there is none.
func (h Hypervisor) Adopt(ctx context.Context, dir string) (*Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	machine, err := connect(ctx, dir, nil)
	if errors.Is(err, errClosed) {
		err = ErrNotRunning // it ended just now
	}
	if err != nil {
		return nil, fmt.Errorf("take over the virtual machine in %s: %w", dir, err)
	}
	return machine, nil
}

// connect greets the QEMU that listens in dir. A connection that is refused proves that
// no process has the socket. Once ended is closed there is nobody to wait for. When
// connect fails it leaves QEMU as it is.
func connect(ctx context.Context, dir string, ended <-chan struct{}) (*Machine, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if ended != nil {
		go func() {
			select {
			case <-ended:
				cancel(errors.New("it ended at once"))
			case <-ctx.Done():
			}
		}()
	}
	conn, err := dial(dir, socketFile)
	if err != nil {
		return nil, err
	}
	control, err := newQMP(ctx, conn)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
			return nil, cause
		}
		return nil, err
	}
	process, err := findProcess(dir)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	m := &Machine{dir: dir, qmp: control, process: process, halted: make(chan struct{}), gone: make(chan struct{})}
	// A guest that powered off while nobody listened tells no more.
	if _, err := m.look(ctx); err != nil {
		_ = conn.Close()
		process.Close()
		return nil, err
	}
	go m.watch() //nolint:gosec,contextcheck // it outlives ctx, as the machine does
	return m, nil
}

// dial connects to a control socket in dir; ErrNotRunning when nobody listens there.
func dial(dir, socket string) (net.Conn, error) {
	parent, err := os.Open(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = parent.Close() }()
	conn, err := net.DialUnix("unix", nil, socketAddr(parent, socket))
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// findProcess opens the QEMU of dir. QEMU writes its pidfile before it greets, and runs in
// dir: a number that was used again belongs to a process elsewhere.
func findProcess(dir string) (*pidfd.Process, error) {
	text, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return nil, fmt.Errorf("find QEMU's process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("find QEMU's process: %s holds %q", pidFile, text)
	}
	process, err := pidfd.Open(pid)
	if err != nil {
		return nil, fmt.Errorf("find QEMU's process: %w", err)
	}
	here, err1 := os.Stat(dir)
	there, err2 := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(here, there) {
		process.Close()
		return nil, fmt.Errorf("find QEMU's process: %d is another one", pid)
	}
	return process, nil
}

// Resume lets the guest run its first instruction. A guest that runs already runs on.
func (m *Machine) Resume(ctx context.Context) error {
	state, err := m.look(ctx)
	if err != nil {
		return fmt.Errorf("start the guest: %w", err)
	}
	if state != "prelaunch" {
		return nil
	}
	if err := m.qmp.execute(ctx, "cont", nil); err != nil {
		return fmt.Errorf("start the guest: %w", err)
	}
	return nil
}

// PowerDown presses the power button. Whether and when the guest obeys shows in Halted.
func (m *Machine) PowerDown(ctx context.Context) error {
	return m.qmp.execute(ctx, "system_powerdown", nil)
}

// Kill ends the machine. Gone is closed soon after.
func (m *Machine) Kill() { _ = m.process.Signal(unix.SIGKILL) }

// Halted is closed when the guest has powered itself off. Its process is still there.
func (m *Machine) Halted() <-chan struct{} { return m.halted }

// Gone is closed when the machine's process has ended.
func (m *Machine) Gone() <-chan struct{} { return m.gone }

// LastWords is what QEMU itself said last, for people.
func (m *Machine) LastWords() string { return strings.TrimPrefix(said(m.dir), ": ") }

// look asks QEMU how the machine is and takes note. A machine that the accelerator gave
// up on never runs again.
func (m *Machine) look(ctx context.Context) (string, error) {
	state, err := m.qmp.status(ctx)
	if err != nil {
		return "", err
	}
	switch state {
	case "shutdown":
		m.once.Do(func() { close(m.halted) })
	case "internal-error":
		m.Kill()
	}
	return state, nil
}

// watch follows the machine to its end.
func (m *Machine) watch() {
	for e := range m.qmp.events {
		if e.Name == "SHUTDOWN" && e.Data.Guest || e.Name == "STOP" {
			// Errors mean that QEMU is gone, which ends the loop.
			_, _ = m.look(context.Background())
		}
		if e.Name == "DEVICE_DELETED" {
			m.released(e.Data.Device)
		}
	}
	_ = m.qmp.conn.Close()
	// QEMU closes its socket when it ends, and never before.
	_ = m.process.Wait(context.Background())
	m.process.Close()
	close(m.gone)
}
