// Package vm runs an instance as a QEMU virtual machine: q35, booted through UEFI from an
// NVMe drive on a copy-on-write overlay over the baked disk. Each machine lives in a
// directory and a session of its own and outlives the process that started it, which
// finds it again by its control socket. What goes wrong at the start is reported with
// what QEMU said.
package vm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
	"github.com/ovenbird-dev/ovenbird/lab/nvram"
)

// ErrNotRunning is what Adopt answers when the instance has no virtual machine.
var ErrNotRunning = errors.New("no virtual machine runs")

// startTimeout bounds how long QEMU may take until it answers, on a machine that is busy
// with other guests.
const startTimeout = 60 * time.Second

// Programs are the files of the host that machines are made with.
type Programs struct {
	QEMU, Image    string // qemu-system-x86_64, qemu-img
	Firmware, Vars string // OVMF's code, and the template of its variables
	SecureFirmware string // OVMF's code with Secure Boot
}

// FindPrograms looks for what the Debian packages qemu-system-x86, qemu-utils and ovmf
// install.
func FindPrograms() (Programs, error) {
	var p Programs
	var err error
	if p.QEMU, err = exec.LookPath("qemu-system-x86_64"); err != nil {
		return p, errors.New("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
	}
	if p.Image, err = exec.LookPath("qemu-img"); err != nil {
		return p, errors.New("qemu-img is not installed: apt-get install qemu-utils")
	}
	p.Firmware, p.Vars = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	p.SecureFirmware = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	for _, file := range []string{p.Firmware, p.Vars, p.SecureFirmware} {
		if _, err := os.Stat(file); err != nil {
			return p, fmt.Errorf("the UEFI firmware %s is not installed: apt-get install ovmf", file)
		}
	}
	return p, nil
}

// Hypervisor starts and finds virtual machines.
type Hypervisor struct {
	Programs
	Accelerator string // KVM or TCG
	// SnapshotRate is how fast a block of a volume comes from its snapshot when it is first
	// touched, in MiB/s; 0: it is there already.
	SnapshotRate int
}

// Start makes the instance's disk and starts its machine, paused: its tap is there, its
// first instruction waits for Machine.Resume.
func (h Hypervisor) Start(ctx context.Context, spec Spec) (*Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := h.prepare(ctx, spec); err != nil {
		return nil, err
	}
	return h.run(ctx, spec, h.SnapshotRate)
}

// Restart starts the machine of an instance again that ran and was ended, with the volume
// and the firmware's variables that it left in Spec.Dir. Otherwise it is like Start.
func (h Hypervisor) Restart(ctx context.Context, spec Spec) (*Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := removeFiles(spec.Dir, socketFile, statsFile, pidFile); err != nil {
		return nil, err
	}
	rate := h.SnapshotRate
	switch _, err := os.Stat(filepath.Join(spec.Dir, fetchedFile)); {
	case errors.Is(err, fs.ErrNotExist):
		rate = 0 // the volume was made with everything at hand
	case err != nil:
		return nil, fmt.Errorf("look at the volume of %s: %w", spec.Instance, err)
	case rate == 0:
		rate = unlimitedRate
	}
	return h.run(ctx, spec, rate)
}

// unlimitedRate, in MiB/s, is for a volume that was made cold and need not be slow any more.
const unlimitedRate = 1 << 20

// run starts QEMU on the files in Spec.Dir.
func (h Hypervisor) run(ctx context.Context, spec Spec, snapshotRate int) (*Machine, error) {
	if err := spec.makeDrives(); err != nil {
		return nil, fmt.Errorf("make the instance-store drives of %s: %w", spec.Instance, err)
	}
	listener, err := listen(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("make the control socket of %s: %w", spec.Instance, err)
	}
	log, err := os.OpenFile(filepath.Join(spec.Dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("open QEMU's log for %s: %w", spec.Instance, err)
	}
	// Not CommandContext: the machine outlives the context and this process.
	firmware := h.Firmware
	if spec.UefiData != "" {
		firmware = h.SecureFirmware
	}
	cmd := exec.Command(h.QEMU, spec.arguments(h.Accelerator, firmware, snapshotRate)...) //nolint:noctx
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{listener}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_, _ = listener.Close(), log.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", h.QEMU, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	machine, err := connect(ctx, spec.Dir, ended)
	if err != nil {
		_ = cmd.Process.Kill()
		<-ended
		return nil, fmt.Errorf("start the virtual machine of %s: %w%s", spec.Instance, err, said(spec.Dir))
	}
	return machine, nil
}

// prepare makes the overlay and the firmware's variables afresh.
func (h Hypervisor) prepare(ctx context.Context, spec Spec) error {
	if err := RemoveFiles(spec.Dir); err != nil {
		return err
	}
	if err := h.makeVolume(ctx, spec); err != nil {
		return fmt.Errorf("make the disk of %s over %s: %w", spec.Instance, spec.Image, err)
	}
	if err := h.makeVariables(spec); err != nil {
		return fmt.Errorf("make the firmware variables of %s: %w", spec.Instance, err)
	}
	return nil
}

// makeVariables makes the firmware's variables: none, or those of the image.
func (h Hypervisor) makeVariables(spec Spec) error {
	flash, err := os.ReadFile(h.Vars)
	if err != nil {
		return err
	}
	if spec.UefiData != "" {
		data, err := os.ReadFile(spec.UefiData)
		if err != nil {
			return err
		}
		vars, err := uefivars.Decode(base64.StdEncoding.EncodeToString(data))
		if err != nil {
			return err
		}
		if flash, err = nvram.Write(flash, vars); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(spec.Dir, varsFile), flash, 0o600)
}

// RemoveFiles removes what a machine leaves in dir, but for what the guest printed.
func RemoveFiles(dir string) error {
	return errors.Join(RemoveDrives(dir), removeFiles(dir, diskFile, fetchedFile, varsFile, socketFile, statsFile, pidFile))
}

func removeFiles(dir string, files ...string) error {
	for _, file := range files {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the files of a virtual machine: %w", err)
		}
	}
	return nil
}

// said is the end of QEMU's log, for an error message.
func said(dir string) string {
	file, err := os.Open(filepath.Join(dir, logFile))
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > 1000 {
		_, _ = file.Seek(-1000, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, 1000))
	if t := strings.Join(strings.Fields(string(text)), " "); t != "" {
		return ": QEMU said: " + t
	}
	return ""
}

// listen makes the control socket that QEMU inherits.
func listen(dir string) (*os.File, error) {
	parent, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = parent.Close() }()
	listener, err := net.ListenUnix("unix", socketAddr(parent, socketFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	listener.SetUnlinkOnClose(false)
	return listener.File()
}

// socketAddr reaches a socket in dir through the descriptor: a socket's own path must
// fit into 108 bytes.
func socketAddr(dir *os.File, socket string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socket)}
}
