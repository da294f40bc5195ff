package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// probeTimeout is how long the firmware may take to its first word. On working hardware
// that is a second or two.
const probeTimeout = 10 * time.Second

// Probe tells how machines can run on this host, KVM or TCG, and why. It boots the same
// firmware on the same hardware as an instance has, under KVM, and believes in KVM once
// the firmware prints: where the host is itself a guest, /dev/kvm can exist, start, run
// some instructions, and still never get an ordinary guest going.
func Probe(ctx context.Context, p Programs) (accelerator, reason string, err error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return TCG, "this machine has no /dev/kvm", nil
	}
	dir, err := os.MkdirTemp("", "ovenbird-probe-")
	if err != nil {
		return "", "", fmt.Errorf("probe KVM: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := (Hypervisor{Programs: p}).makeVariables(Spec{Dir: dir}); err != nil {
		return "", "", fmt.Errorf("probe KVM: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	cmd := exec.CommandContext(ctx, p.QEMU, append(hardware(KVM, p.Firmware, false), "-m", "256M", "-serial", "stdio")...)
	cmd.Dir = dir
	first := &firstWord{spoken: cancel}
	trouble := &complaint{heard: cancel}
	cmd.Stdout, cmd.Stderr = first, trouble
	err = cmd.Run()
	switch {
	case first.seen():
		return KVM, "the firmware boots under KVM", nil
	case trouble.text() != "":
		return TCG, "/dev/kvm is there, but no guest runs on it: " + trouble.text(), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return TCG, fmt.Sprintf("/dev/kvm is there, but a guest printed nothing in %s", probeTimeout), nil
	case err != nil:
		return TCG, fmt.Sprintf("/dev/kvm is there, but QEMU ended with %v", err), nil
	}
	return TCG, "/dev/kvm is there, but QEMU ended without a word", nil
}

// firstWord calls spoken when anything is written to it.
type firstWord struct {
	spoken func()
	mu     sync.Mutex
	any    bool
}

func (f *firstWord) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.any = true
	f.spoken()
	return len(p), nil
}

func (f *firstWord) seen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.any
}

// complaint collects what QEMU says on standard error and calls heard once that shows
// that the guest is lost although QEMU stays.
type complaint struct {
	heard func()
	mu    sync.Mutex
	said  bytes.Buffer
}

func (c *complaint) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said.Len() < 64<<10 {
		c.said.Write(p)
	}
	if bytes.Contains(c.said.Bytes(), []byte("KVM internal error")) {
		c.heard()
	}
	return len(p), nil
}

// text is the first line of what was said, but for warnings.
func (c *complaint) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.said.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "warning:") {
			return line
		}
	}
	return ""
}
