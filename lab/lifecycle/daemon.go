package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/pidfd"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Limits on the daemon: how long it may take to get ready, to answer a call, and to end
// after SIGTERM.
const (
	readyLimit  = 60 * time.Second
	answerLimit = 20 * time.Second
	endLimit    = 10 * time.Second
)

// The daemon's inherited descriptors.
const (
	ProxyFD = 3 // the proxy's listening socket, opened outside of the namespace
	ReadyFD = 4 // a pipe: "ready" once everything answers
)

// Ready is what the daemon writes to ReadyFD.
const Ready = "ready\n"

// startDaemon replaces whatever daemon there is. It returns when the new one answers.
func (u *up) startDaemon(ctx context.Context) error {
	if err := stopDaemon(ctx, u.Dir); err != nil {
		return err
	}
	listener, err := u.openProxy(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	ready, tell, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe to the daemon: %w", err)
	}
	defer func() { _ = ready.Close() }()
	child, err := u.spawn(listener, tell)
	_ = tell.Close()
	if err != nil {
		return err
	}
	if err := u.awaitReady(ctx, ready); err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return err
	}
	// It outlives this process, and is nobody's child then.
	if err := child.Release(); err != nil {
		return fmt.Errorf("let go of the daemon: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return access.Check(ctx, u.Dir, u.lab, u.Plan)
}

// openProxy listens on the host's loopback, on the port that the lab has had if that is
// free, and records a new one before anything relies on it.
func (u *up) openProxy(ctx context.Context) (*os.File, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", u.lab.ProxyPort))
	if errors.Is(err, syscall.EADDRINUSE) {
		listener, err = config.Listen(ctx, "tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("open the proxy's port on loopback: %w", err)
	}
	defer func() { _ = listener.Close() }()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("hand the proxy's port over: %w", err)
	}
	if port := listener.Addr().(*net.TCPAddr).Port; port != u.lab.ProxyPort {
		u.lab.ProxyPort = port
		if err := u.Dir.Save(u.lab); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	return file, nil
}

// spawn starts this program again as the daemon, inside the namespace.
func (u *up) spawn(listener, tell *os.File) (*os.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(u.Dir.Log("daemon"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	// Not CommandContext: the daemon outlives this command.
	cmd := exec.Command(self, "daemon", "--state-dir", string(u.Dir)) //nolint:noctx
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{ProxyFD - 3: listener, ReadyFD - 3: tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := namespace.Do(u.lab.Name, cmd.Start); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return cmd.Process, nil
}

// awaitReady waits for the daemon's word. When it ends instead, its last words are the
// error.
func (u *up) awaitReady(ctx context.Context, ready *os.File) error {
	deadline := time.Now().Add(readyLimit)
	if err := ready.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("wait for the daemon: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(ready, int64(len(Ready))))
	switch {
	case string(said) == Ready:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("the lab's daemon is not ready after %s; the end of %s: %s", readyLimit, u.Dir.Log("daemon"), lastLine(u.Dir))
	}
	return fmt.Errorf("the lab's daemon ended at once: %s", lastLine(u.Dir))
}

// lastLine is the last line of the daemon's log.
func lastLine(dir state.Dir) string {
	file, err := os.Open(dir.Log("daemon"))
	if err != nil {
		return "(no log)"
	}
	defer func() { _ = file.Close() }()
	const much = 4096
	if info, err := file.Stat(); err == nil && info.Size() > much {
		_, _ = file.Seek(-much, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, much))
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return strings.TrimSpace(string(lines[len(lines)-1]))
}

// stopDaemon ends the daemon and waits until it is gone. Its instances run on.
func stopDaemon(ctx context.Context, dir state.Dir) error {
	pid, ok := dir.Daemon()
	if !ok {
		return nil
	}
	process, err := pidfd.Open(pid)
	if errors.Is(err, pidfd.ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	defer process.Close()
	if now, ok := dir.Daemon(); !ok || now != pid {
		return nil // ended meanwhile; the number may be another process's
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := process.Signal(signal); err != nil {
			return fmt.Errorf("stop daemon %d: %w", pid, err)
		}
		limited, cancel := context.WithTimeout(ctx, endLimit)
		err := process.Wait(limited)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("daemon %d does not end", pid)
}
