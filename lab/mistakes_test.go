package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAnUpThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	l := newTestLab(t, "")
	// A dnsmasq that cannot start, and says so.
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "dnsmasq"), []byte("#!/bin/sh\necho 'dnsmasq: out of luck' >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", broken+":"+os.Getenv("PATH"))
	_, complaints, status := l.try(t, "up", "--name", l.name, "--accelerator", "tcg")
	if status != 1 || !strings.Contains(complaints, "out of luck") {
		t.Errorf("exit status %d: %s", status, complaints)
	}
	if left := l.leftovers(t); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

func TestMistakesAreOneLineAndMakeNothing(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	if err := os.MkdirAll(filepath.Join(full, "of-something"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir    string
		args   []string
		status int
		says   string
	}{
		"no image":             {"", []string{"up", "--image", "/no/such/disk.raw"}, 1, "no image at /no/such/disk.raw"},
		"not an image":         {"", []string{"up", "--image", "/dev/null"}, 1, "not a raw disk image"},
		"a name with a slash":  {"", []string{"up", "--name", "a/b"}, 1, `"a/b"`},
		"an accelerator":       {"", []string{"up", "--accelerator", "warp"}, 2, "warp"},
		"a stranger's files":   {full, []string{"up", "--name", "obtest-full"}, 1, "holds no lab and is not empty"},
		"no lab to look at":    {"", []string{"status"}, 1, "ovenbird-lab up"},
		"no lab to launch in":  {"", []string{"run-instances"}, 1, "ovenbird-lab up"},
		"an unknown command":   {"", []string{"fly"}, 2, "fly"},
		"an unknown flag":      {"", []string{"status", "--fly"}, 2, "fly"},
		"no instance named":    {"", []string{"terminate-instances"}, 2, "arg"},
		"a log but no detach":  {"", []string{"exec", "--log", "x", "--", "true"}, 2, "--detach"},
		"the daemon by itself": {"", []string{"daemon"}, 1, "ovenbird-lab up"},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLab{dir: c.dir}
			if c.dir == "" {
				l.dir = filepath.Join(t.TempDir(), "lab")
			}
			if os.Geteuid() != 0 && c.args[0] == "up" && c.status == 1 {
				t.Skip("needs root to get that far")
			}
			_, complaints, status := l.try(t, c.args...)
			if status != c.status || strings.Count(complaints, "\n") != 1 || !strings.Contains(complaints, c.says) {
				t.Errorf("exit status %d, want %d with %q: %s", status, c.status, c.says, complaints)
			}
			if _, err := os.Stat(l.dir); c.dir == "" && !errors.Is(err, fs.ErrNotExist) {
				t.Error("something was made")
			}
		})
	}
}

func TestWithoutRootNothingIsMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become nobody")
	}
	// The test binary lies where only root reads.
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "ovenbird-lab")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"up"}, {"down"}, {"exec", "--", "true"}} {
		cmd := exec.CommandContext(t.Context(), copied, append([]string{args[0], "--state-dir", filepath.Join(dir, "lab")}, args[1:]...)...)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "needs root") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "lab")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was made")
	}
}
