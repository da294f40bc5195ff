package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
)

// Kill ends the agent's process as a power cut does.
func (w *World) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pid != 0 {
		_ = unix.Kill(w.pid, unix.SIGKILL)
	}
}

// run runs the agent's process to its end.
func (w *World) run(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(machine{Root: string(w.Root), Started: w.started, Speed: Speed, Full: w.Full})
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, program)
	command.Args = []string{"ovenbird-agent", "init"}
	command.Env = []string{"PATH=/usr/bin", "NOTIFY_SOCKET=/run/systemd/notify", variable + "=" + string(encoded)}
	command.Stderr = locked{w, &w.journal}
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	w.network.do(func() { err = command.Start() })
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.pid = command.Process.Pid
	w.runs++
	w.mu.Unlock()
	// The process runs its program by now: Start waits for that.
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", command.Process.Pid, file))
		if err != nil {
			w.t.Error(err)
		}
		w.mu.Lock()
		w.argv = append(w.argv, string(data))
		w.mu.Unlock()
	}
	err = command.Wait()
	w.mu.Lock()
	w.pid = 0
	w.mu.Unlock()
	return err
}

// MustJoin runs the agent as systemd does, again whenever it fails, and fails the test unless
// the node becomes Ready.
func (w *World) MustJoin() boot.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	for {
		err := w.run(ctx)
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if ctx.Err() != nil || !errors.As(err, &exit) || exit.ExitCode() == 2 {
			journal := w.Journal()
			w.t.Fatalf("the node is stranded: %v\n%s", err, journal[max(0, len(journal)-4<<10):])
		}
		_ = boot.SystemClock{}.Sleep(ctx, 2*time.Second/Speed) // RestartSec of ovenbird-agent.service
	}
	w.await(ctx, "READY=1\nSTATUS="+NodeName+" is Ready in cluster demo, ")
	status, err := boot.ReadStatus(w.Root)
	if err != nil {
		w.t.Fatal(err)
	}
	if status.Ready == nil {
		w.t.Errorf("the status does not say that the node is Ready: %+v", status)
	}
	for _, phase := range status.Phases {
		if phase.State != boot.Done {
			w.t.Errorf("phase %s is %s", phase.Name, phase.State)
		}
	}
	w.check()
	return status
}

// await waits until the last word to systemd begins with text.
func (w *World) await(ctx context.Context, text string) {
	w.t.Helper()
	for {
		w.mu.Lock()
		heard, changed := slices.Clone(w.notified), w.changed
		w.mu.Unlock()
		if slices.ContainsFunc(heard, func(state string) bool { return strings.HasPrefix(state, text) }) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.t.Fatalf("systemd heard %q, want %q", heard, text)
		}
	}
}

// check checks what must always be so.
func (w *World) check() {
	w.t.Helper()
	status, err := os.ReadFile(w.Root.Join(boot.StatusPath))
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.console.String() + w.journal.String() + strings.Join(w.notified, "\n") + string(status) + strings.Join(w.argv, "\n")
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			w.t.Errorf("%q was told", secret)
		}
	}
	for i := 1; i < len(w.notified); i++ {
		if w.runs == 1 && w.notified[i] == w.notified[i-1] {
			w.t.Errorf("systemd was told twice: %s", w.notified[i])
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(w.console.String()) {
		if w.runs == 1 && seen[line] {
			w.t.Errorf("the console was told twice: %s", line)
		}
		seen[line] = true
	}
}
