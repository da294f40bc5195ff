package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterName is what scripts/up calls its cluster.
const clusterName = "demo"

// lab is one lab with its own name, state and namespace, brought up as `make up` does.
type lab struct {
	root  string // the repository
	state string
	name  string
	env   []string // settings of the scripts, and what `ovenbird-lab env` exports
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// startLab runs scripts/up with settings on a lab of its own and removes it when the test
// ends.
func startLab(t *testing.T, settings ...string) *lab {
	t.Helper()
	l := &lab{root: repository(t), state: t.TempDir(), name: fmt.Sprintf("ob-e2e-%d", os.Getpid()), env: settings}
	t.Cleanup(func() {
		if t.Failed() {
			l.keepLogs(t)
		}
		l.down(t)
	})
	l.up(t)

	var exported map[string]string
	out := l.ctl(t, 30*time.Second, "env", "--output", "json")
	if err := json.Unmarshal([]byte(out), &exported); err != nil {
		t.Fatalf("read the lab's environment: %v\n%s", err, out)
	}
	for name, value := range exported {
		l.env = append(l.env, name+"="+value)
	}
	return l
}

// value is one variable of the lab's environment.
func (l *lab) value(name string) string {
	for _, pair := range l.env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func (l *lab) up(t *testing.T) string {
	t.Helper()
	return l.run(t, 15*time.Minute, "scripts/up")
}

func (l *lab) down(t *testing.T) {
	t.Helper()
	l.run(t, 3*time.Minute, "scripts/down")
}

// run runs a command of the repository in the lab's environment and returns what it
// printed on standard output; a failure ends the test with what it said.
func (l *lab) run(t *testing.T, limit time.Duration, name string, args ...string) string {
	t.Helper()
	out, stderr, err := l.try(t, limit, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr)
	}
	return out
}

// ctl runs a command of ovenbird-lab on the lab.
func (l *lab) ctl(t *testing.T, limit time.Duration, command string, args ...string) string {
	t.Helper()
	return l.run(t, limit, "bin/ovenbird-lab", append([]string{command, "--name", l.name, "--state-dir", l.state + "/lab"}, args...)...)
}

// try is run for commands that may fail.
func (l *lab) try(t *testing.T, limit time.Duration, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return l.command(limit, name, args...)
}

// command is try for other goroutines than the test's.
func (l *lab) command(limit time.Duration, name string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(l.root, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = l.root
	cmd.Env = append(append(os.Environ(), l.env...),
		"OVENBIRD_STATE="+l.state, "OVENBIRD_LAB="+l.name, "OVENBIRD_CLUSTER="+clusterName)
	// Scripts hand a SIGTERM on to what they started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("not done after %s", limit))
	}
	return out.String(), errout.String(), err
}

// restConfig is the administrator's client configuration.
func (l *lab) restConfig(t *testing.T) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(l.state, "kubeconfig"))
	if err != nil {
		t.Fatalf("read the kubeconfig: %v", err)
	}
	config.Timeout = 30 * time.Second
	return config
}

func (l *lab) client(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(l.restConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// keepLogs prints the ends of the logs that explain a failure.
func (l *lab) keepLogs(t *testing.T) {
	var logs []string
	for _, pattern := range []string{"logs/*.log", "lab/log/*.log", "lab/instances/*/console.log", "lab/instances/*/qemu.log",
		"control-plane/*.log", "control-plane/clusters/*/run/*.log"} {
		found, _ := filepath.Glob(filepath.Join(l.state, pattern))
		logs = append(logs, found...)
	}
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		t.Logf("the end of %s:\n%s", path, content[max(0, len(content)-3000):])
	}
}
