package pidfd

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAProcessIsSignalledAndWaitedFor(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for one that is alive: %v", err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Errorf("signal one that is gone: %v", err)
	}
	if _, err := Open(child.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("open one that is gone: %v", err)
	}
	p.Close()
	p.Close()
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Errorf("signal after Close: %v", err)
	}
}
