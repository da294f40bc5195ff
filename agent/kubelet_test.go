package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// kubeletMinors are those that OVENBIRD_FULL asks for.
var kubeletMinors = []string{"1.34", "1.35", "1.36", "1.37"}

// TestKubeletTakesTheFiles starts the real kubelet of each minor that is built on the files
// that a node of that minor gets, in a root of its own. Kubelet tells its version once it has
// read and validated its flags, its configuration and the user's; there it is stopped.
func TestKubeletTakesTheFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		cannot(t, "changing the root directory needs root")
	}
	binaries, err := filepath.Glob("../dist/components/kubernetes/*/kubelet")
	if err != nil || len(binaries) == 0 {
		cannot(t, "kubelet is not built: run make components")
	}
	built := map[string]bool{}
	for _, binary := range binaries {
		version := filepath.Base(filepath.Dir(binary))
		built[version[:strings.LastIndex(version, ".")]] = true
		for name, userData := range map[string]string{
			"plain": "", "token": "",
			"with the user's part": `
  kubelet:
    maxPodsExpression: max_pods + 1
    flags: ["--v=3", "--node-labels=team=blue"]
    config:
      evictionHard: {memory.available: 5%}
      evictionSoft: {memory.available: 7%}
      evictionSoftGracePeriod: {memory.available: 1m}
      failSwapOn: false
      memorySwap: {swapBehavior: LimitedSwap}
      topologyManagerPolicy: best-effort
      imageGCHighThresholdPercent: 70
      imageGCLowThresholdPercent: 50
`,
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				plain, err := os.ReadFile("testdata/cases/plain/input")
				if err != nil {
					t.Fatal(err)
				}
				root := rootfs.Root(t.TempDir())
				release := fmt.Sprintf(`{"kubernetes":%q,"pauseImage":"pause"}`, version)
				if err := root.Apply(
					rootfs.File{Path: image.Path, Data: []byte(release)},
					rootfs.File{Path: "/user-data", Data: append(plain, userData...)},
				); err != nil {
					t.Fatal(err)
				}
				args := []string{"--root", string(root), "--user-data", root.Join("/user-data")}
				if name == "token" {
					args = append(args, "--identity", "token")
				}
				if _, _, err := run(initCommand(), args...); err != nil {
					t.Fatal(err)
				}
				startKubelet(t, root, binary)
			})
		}
	}
	if os.Getenv("OVENBIRD_FULL") != "" {
		for _, minor := range kubeletMinors {
			if !built[minor] {
				t.Errorf("kubelet %s is not built: run scripts/components --all", minor)
			}
		}
	}
}

// cannot skips the test with why; in CI, where it must run, it fails.
func cannot(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// startKubelet runs binary in root as kubelet.service does until it has accepted its files.
func startKubelet(t *testing.T, root rootfs.Root, binary string) {
	t.Helper()
	environment, err := os.ReadFile(root.Join("/etc/eks/kubelet/environment"))
	if err != nil {
		t.Fatal(err)
	}
	_, flags, _ := strings.Cut(strings.TrimSpace(string(environment)), "=")
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.Join("/kubelet"), program, 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	// Kubelet refuses a machine without cgroup v2, which a host may not have mounted.
	const enter = `mkdir -p "$0/sys/fs/cgroup" && mount -t cgroup2 none "$0/sys/fs/cgroup" && exec chroot "$0" /kubelet "$@"`
	args := append([]string{"--mount", "sh", "-c", enter, string(root)}, strings.Fields(strings.Trim(flags, `"`))...)
	command := exec.CommandContext(t.Context(), "unshare", args...)
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = command.Wait() }()
	defer func() { _ = command.Process.Kill() }()
	accepted := false
	var said []string
	for lines := bufio.NewScanner(stderr); lines.Scan() && !accepted; {
		line := lines.Text()
		said = append(said, line)
		accepted = strings.Contains(line, `"Kubelet version"`)
		for _, complaint := range []string{"lenient decoding", "unrecognized feature gate", "unknown field", "has been deprecated"} {
			if strings.Contains(line, complaint) {
				t.Errorf("kubelet complains: %s", line)
			}
		}
	}
	if !accepted {
		t.Errorf("kubelet did not take its files:\n%s", strings.Join(said, "\n"))
	}
}
