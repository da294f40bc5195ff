package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a command and the machine that it finds: /etc, /var and /run are its own, in
// memory, and empty save for the files.
type machine struct {
	Dir   string            // where its directories are mounted
	Files map[string]string // content by path
	Env   []string          // besides the caller's
	Args  []string
}

// usage is what the command took.
type usage struct {
	Seconds float64 // from before it was started until it had ended
	CPU     float64 // seconds, in user and kernel mode
	Peak    float64 // MB resident
}

// run runs the command. What it wrote stays out of reach: its mounts end with it.
func (m machine) run(ctx context.Context) (usage, error) {
	description, err := json.Marshal(m)
	if err != nil {
		return usage{}, err
	}
	cmd, err := part(ctx, m.Env, partMachine, string(description))
	if err != nil {
		return usage{}, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w", strings.Join(m.Args, " "), err)
	}
	var took usage
	if err := json.Unmarshal(out, &took); err != nil {
		return usage{}, fmt.Errorf("%s printed %q: %w", partMachine, out, err)
	}
	return took, nil
}

// runMachine is the part that has the mounts.
func runMachine(ctx context.Context, description string) error {
	var m machine
	if err := json.Unmarshal([]byte(description), &m); err != nil {
		return err
	}
	if err := m.mount(); err != nil {
		return fmt.Errorf("make the machine's directories: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	log := filepath.Join(m.Dir, "log")
	took, err := measure(ctx, log, m.Args)
	if err != nil {
		said, _ := os.ReadFile(log)
		return fmt.Errorf("%w\n%s", err, said)
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

func (m machine) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", m.Dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	// Authorities of the system are read on a real node too.
	const authorities = "/etc/ssl"
	if err := os.MkdirAll(m.Dir+authorities, 0o750); err != nil {
		return err
	}
	if err := unix.Mount(authorities, m.Dir+authorities, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for path, content := range m.Files {
		if err := os.MkdirAll(filepath.Dir(m.Dir+path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(m.Dir+path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	for _, path := range []string{"/etc", "/var", "/run"} {
		if err := os.MkdirAll(m.Dir+path, 0o750); err != nil {
			return err
		}
		if err := unix.Mount(m.Dir+path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return nil
}

// measure runs a program to its end, which must be a good one. Linux hands the peak memory
// of who starts a program on to it, so a shell does: it is small, and gone before the end.
func measure(ctx context.Context, log string, args []string) (usage, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return usage{}, fmt.Errorf("become the parent of orphans: %w", err)
	}
	output, err := os.Create(log)
	if err != nil {
		return usage{}, err
	}
	defer output.Close()
	shell := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `"$@" >&2 & echo $!`, "sh"}, args...)...)
	shell.Stderr = output
	began := time.Now()
	printed, err := shell.Output()
	if err != nil {
		return usage{}, fmt.Errorf("start %s: %w", args[0], err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(printed)))
	if err != nil {
		return usage{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = unix.Kill(pid, unix.SIGKILL) })()
	var status unix.WaitStatus
	var resources unix.Rusage
	for {
		_, err = unix.Wait4(pid, &status, 0, &resources)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	seconds := time.Since(began).Seconds()
	switch {
	case err != nil:
		return usage{}, fmt.Errorf("wait for %s: %w", args[0], err)
	case !status.Exited() || status.ExitStatus() != 0:
		return usage{}, fmt.Errorf("%s has ended with status %#x", args[0], uint32(status))
	}
	return usage{
		Seconds: seconds,
		CPU:     float64(resources.Utime.Nano()+resources.Stime.Nano()) / 1e9,
		Peak:    float64(resources.Maxrss) * 1024 / 1e6,
	}, nil
}
