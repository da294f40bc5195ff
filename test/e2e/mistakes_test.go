package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const nodeConfig = `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: demo
    apiServerEndpoint: https://10.0.0.10:6443
    certificateAuthority: %CA%
    cidr: 172.20.0.0/16
`

// checkMistakes makes the mistakes that people make; each must get a line that names the
// field or the cause, and make nothing.
func checkMistakes(t *testing.T, l *lab) {
	config := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unknownField := config("unknown-field", strings.NewReplacer("cidr:", "cdir:", "%CA%", "Zm9v").Replace(nodeConfig))
	brokenCA := config("broken-ca", strings.Replace(nodeConfig, "%CA%", "bm90IGEgY2VydGlmaWNhdGU=", 1))
	subnets := l.value("OVENBIRD_SUBNETS")
	one, _, _ := strings.Cut(subnets, ",")

	for name, test := range map[string]struct {
		command []string
		says    string
	}{
		"a cluster name with a slash":        {[]string{"bin/ovenbird", "cluster", "create", "a/b", "--subnets", subnets}, "a/b"},
		"a version that is not offered":      {[]string{"bin/ovenbird", "cluster", "create", "old", "--version", "1.12", "--subnets", subnets}, "1.12"},
		"one subnet":                         {[]string{"bin/ovenbird", "cluster", "create", "narrow", "--subnets", one}, "subnet"},
		"a NodeConfig with an unknown field": {[]string{"bin/ovenbird-agent", "config", "check", unknownField}, "cdir"},
		"a NodeConfig with a broken CA":      {[]string{"bin/ovenbird-agent", "config", "check", brokenCA}, "certificateAuthority"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, err := l.try(t, time.Minute, test.command[0], test.command[1:]...)
			if err == nil {
				t.Fatal("it was accepted")
			}
			said := strings.TrimSpace(stderr)
			if said == "" {
				said = strings.TrimSpace(out)
			}
			// config check has a line for each problem.
			if !strings.Contains(said, test.says) || test.command[0] == "bin/ovenbird" && strings.Contains(said, "\n") {
				t.Errorf("want one line that names %q, got:\n%s", test.says, said)
			}
		})
	}
	if out := l.run(t, time.Minute, "bin/ovenbird", "cluster", "list"); strings.Contains(out, "old") || strings.Contains(out, "narrow") {
		t.Errorf("a refused cluster was made:\n%s", out)
	}
}

func TestUpWithoutRootSaysSo(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// A program in a directory that everyone may read, as the checkout may be root's alone.
	binary := filepath.Join(os.TempDir(), "ovenbird-lab-"+filepath.Base(t.TempDir()))
	content, err := os.ReadFile(filepath.Join(root, "bin/ovenbird-lab"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, content, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(binary) })
	state := filepath.Join(os.TempDir(), filepath.Base(binary)+"-state")
	cmd := exec.Command(binary, "up", "--state-dir", state, "--name", "ob-nobody")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "root") || strings.Count(strings.TrimSpace(string(out)), "\n") > 0 {
		t.Errorf("want one line that asks for root, got %v:\n%s", err, out)
	}
	if _, err := os.Stat(state); err == nil {
		t.Errorf("%s was half made", state)
	}
}

func TestAVersionThatNobodyPinsIsRefused(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(root, "scripts/packer"), "validate", "-var", "kubernetes_version=1.12.0", "packer/templates/node.pkr.hcl")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), `kubernetes_version: this plugin pins no Kubernetes "1.12.0"`) {
		t.Errorf("want an error that names kubernetes_version and what there is, got %v:\n%s", err, out)
	}
}
