package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
)

// asProgram makes the test binary the program itself, which `up` starts again as daemon.
const asProgram = "OVENBIRD_LAB_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// testLab is a lab under a name and in a directory of its own.
type testLab struct{ name, dir string }

func newTestLab(t *testing.T, suffix string) testLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	l := testLab{name: fmt.Sprintf("obtest%d%s", os.Getpid(), suffix), dir: filepath.Join(t.TempDir(), "lab")}
	t.Cleanup(func() {
		if _, err := os.Stat(l.dir); err == nil {
			l.run(t, "down")
		}
	})
	return l
}

// command is the program's command line in the lab.
func (l testLab) command(ctx context.Context, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	at := []string{args[0], "--state-dir", l.dir}
	cmd := exec.CommandContext(ctx, self, append(at, args[1:]...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// try runs a command and answers its output, its complaints and its exit status.
func (l testLab) try(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := l.command(ctx, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// run is try for a command that must succeed.
func (l testLab) run(t *testing.T, args ...string) string {
	t.Helper()
	out, complaints, status := l.try(t, args...)
	if status != 0 {
		t.Fatalf("%v: exit status %d\n%s", args, status, complaints)
	}
	return out
}

func (l testLab) status(t *testing.T) labStatus {
	t.Helper()
	var s labStatus
	if err := json.Unmarshal([]byte(l.run(t, "status", "--output", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// blankImage is a disk that no firmware boots from: a guest's firmware runs, and that is
// machine enough here.
func blankImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// host is what a lab must not change on this machine.
func host(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, look := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-o", "addr"}, {"ip", "route", "show", "table", "all"}, {"ip", "rule"},
		{"nft", "list", "ruleset"}, {"sh", "-c", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter"},
	} {
		if _, err := exec.LookPath(look[0]); err != nil {
			continue
		}
		out, err := exec.Command(look[0], look[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", look, err, out)
		}
		fmt.Fprintf(&all, "%v\n%s\n", look, out)
	}
	return all.String()
}

// leftovers are processes and mounts that still have to do with the lab.
func (l testLab) leftovers(t *testing.T) []string {
	t.Helper()
	var left []string
	if _, err := os.Stat(l.dir); !errors.Is(err, fs.ErrNotExist) {
		left = append(left, "directory "+l.dir)
	}
	if _, err := os.Lstat(namespace.Path(l.name)); !errors.Is(err, fs.ErrNotExist) {
		left = append(left, "namespace "+l.name)
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(l.name)) || bytes.Contains(mounts, []byte(l.dir)) {
		left = append(left, "a mount")
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range commands {
		if line, _ := os.ReadFile(file); bytes.Contains(line, []byte(l.dir)) {
			left = append(left, "process "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
		if cwd, _ := os.Readlink(filepath.Join(filepath.Dir(file), "cwd")); strings.HasPrefix(cwd, l.dir) {
			left = append(left, "a process in "+cwd)
		}
	}
	return left
}

func TestALabComesUpIsUsedSurvivesItsDaemonAndLeavesNothing(t *testing.T) {
	l := newTestLab(t, "")
	before := host(t)
	l.run(t, "up", "--name", l.name, "--image", blankImage(t), "--accelerator", "tcg")
	first := l.status(t)
	if !first.Running || first.Name != l.name || !strings.HasPrefix(first.AMI, "ami-0") {
		t.Fatalf("after up: %+v", first)
	}
	if now := host(t); now != before {
		t.Errorf("the host changed from\n%s\nto\n%s", before, now)
	}

	t.Run("a second up changes nothing", func(t *testing.T) { testSecondUp(t, l, first) })
	t.Run("another lab cannot have its name", func(t *testing.T) { testNameTaken(t, l) })
	t.Run("commands inside have its network and resolver", func(t *testing.T) { testExec(t, l) })

	id := launchOne(t, l)
	t.Run("an instance finds what EC2 would give it", func(t *testing.T) { testInstance(t, l, id) })
	t.Run("the AWS SDK on the host reaches it", func(t *testing.T) { testFromTheHost(t, l, id) })
	t.Run("a disk that was uploaded is what an instance starts from", func(t *testing.T) { testPublish(t, l) })
	t.Run("calls go wrong on demand", func(t *testing.T) { testFault(t, l) })
	t.Run("container images are put into the registry", func(t *testing.T) { testLoadImage(t, l) })
	t.Run("an instance is told what EC2 announces", func(t *testing.T) { testAnnounce(t, l, id) })
	t.Run("signals are waited for", func(t *testing.T) { testSignals(t, l) })
	t.Run("a killed daemon is started again and finds the instance", func(t *testing.T) { testKilledDaemon(t, l, id, first) })
	t.Run("instances are terminated", func(t *testing.T) { testTerminate(t, l, id) })
	t.Run("a stopped instance is kept, and started with its volume", func(t *testing.T) { testStopAndStart(t, l) })

	launchOne(t, l) // down ends what runs
	l.run(t, "down")
	if left := l.leftovers(t); len(left) > 0 {
		t.Errorf("down left %q", left)
	}
	if now := host(t); now != before {
		t.Errorf("the host changed from\n%s\nto\n%s", before, now)
	}
	l.run(t, "down")
}

func testSecondUp(t *testing.T, l testLab, first labStatus) {
	record, err := os.ReadFile(filepath.Join(l.dir, "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	if out := l.run(t, "up"); !strings.Contains(out, "up already") {
		t.Errorf("it says %q", out)
	}
	if now, _ := os.ReadFile(filepath.Join(l.dir, "lab.json")); !bytes.Equal(now, record) || l.status(t).DaemonPID != first.DaemonPID {
		t.Error("it changed something")
	}
}

func testNameTaken(t *testing.T, l testLab) {
	other := testLab{name: l.name, dir: filepath.Join(t.TempDir(), "lab")}
	_, complaints, status := other.try(t, "up", "--name", l.name)
	if status != 1 || strings.Count(complaints, "\n") != 1 || !strings.Contains(complaints, l.dir) {
		t.Errorf("exit status %d: %s", status, complaints)
	}
	if _, err := os.Stat(other.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was made all the same")
	}
}

func testExec(t *testing.T, l testLab) {
	out := l.run(t, "exec", "--", "sh", "-c", `cat /etc/resolv.conf; echo "$AWS_ENDPOINT_URL<$HTTPS_PROXY>"`)
	if !strings.Contains(out, "nameserver 10.0.0.2\n") || !strings.Contains(out, "https://aws.lab.internal<>") {
		t.Errorf("inside: %s", out)
	}
	pidfile, log := filepath.Join(t.TempDir(), "pid"), filepath.Join(t.TempDir(), "log")
	l.run(t, "exec", "--detach", "--pidfile", pidfile, "--log", log, "--", "sh", "-c", "echo hello; exec sleep 600")
	text, err := os.ReadFile(pidfile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if inside, err := namespace.Holds(l.name, pid); !inside || err != nil {
		t.Errorf("the detached command is inside: %v, %v", inside, err)
	}
	if _, complaints, status := l.try(t, "exec", "--", "/no/such/program"); status != 1 || !strings.Contains(complaints, "/no/such/program") {
		t.Errorf("exit status %d: %s", status, complaints)
	}
}

func testTerminate(t *testing.T, l testLab, id string) {
	l.run(t, "terminate-instances", "--wait", "--skip-os-shutdown", id)
	if s := l.status(t).Instances[0]; s.State != "terminated" || s.Address != "" {
		t.Errorf("%+v", s)
	}
	if _, complaints, status := l.try(t, "terminate-instances", "i-0ffffffffffffffff"); status != 1 ||
		!strings.Contains(complaints, "InvalidInstanceID.NotFound") || strings.Count(complaints, "\n") != 1 {
		t.Errorf("exit status %d: %s", status, complaints)
	}
}

// launchOne starts an instance and answers its ID.
func launchOne(t *testing.T, l testLab, more ...string) string {
	t.Helper()
	args := append([]string{"run-instances", "--instance-type", "t3.nano", "--iam-instance-profile", "ovenbird-node",
		"--tag", "kubernetes.io/cluster/demo=owned", "--user-data", writeFile(t, "#!/bin/sh\n"), "--output", "json"}, more...)
	out := l.run(t, args...)
	var list []launched
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].State != "running" {
		t.Fatalf("run-instances: %v: %s", err, out)
	}
	return list[0].ID
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func testKilledDaemon(t *testing.T, l testLab, id string, first labStatus) {
	machine := l.machine(t, id)
	if err := syscall.Kill(first.DaemonPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); l.status(t).Running; {
		if time.Now().After(deadline) {
			t.Fatal("the daemon is still there")
		}
	}
	if _, complaints, status := l.try(t, "env"); status != 1 || !strings.Contains(complaints, "ovenbird-lab up") {
		t.Errorf("env without a daemon: exit status %d: %s", status, complaints)
	}
	l.run(t, "up")
	second := l.status(t)
	if !second.Running || second.DaemonPID == first.DaemonPID || second.Proxy != first.Proxy || second.AMI != first.AMI {
		t.Errorf("%+v, before %+v", second, first)
	}
	if now := l.machine(t, id); now != machine {
		t.Errorf("the instance's machine is process %d, was %d", now, machine)
	}
	testFromTheHost(t, l, id)
}

// machine is the process of an instance's virtual machine.
func (l testLab) machine(t *testing.T, id string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "instances", id, "qemu.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestTwoLabsStandBesideEachOther(t *testing.T) {
	one, two := newTestLab(t, "a"), newTestLab(t, "b")
	one.run(t, "up", "--name", one.name, "--accelerator", "tcg")
	two.run(t, "up", "--name", two.name, "--accelerator", "tcg")
	if a, b := one.status(t), two.status(t); a.Proxy == b.Proxy || !a.Running || !b.Running {
		t.Errorf("%+v and %+v", a, b)
	}
	one.run(t, "down")
	if !two.status(t).Running {
		t.Error("one lab took the other down")
	}
	two.run(t, "exec", "--", "true")
}

func TestALabWhoseDirectoryIsGoneIsStillRemoved(t *testing.T) {
	l := newTestLab(t, "")
	l.run(t, "up", "--name", l.name, "--accelerator", "tcg")
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	l.run(t, "down", "--name", l.name)
	if left := l.leftovers(t); len(left) > 0 {
		t.Errorf("down left %q", left)
	}
}
