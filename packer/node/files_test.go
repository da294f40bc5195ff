package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSystemdAcceptsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	root := t.TempDir()
	for _, program := range []string{"/usr/bin/kubelet", "/usr/bin/containerd", "/usr/bin/ovenbird-agent", "/usr/sbin/iptables", "/usr/sbin/nft"} {
		writeProgram(t, filepath.Join(root, program))
	}
	units, err := nodeFiles.ReadDir("files/usr/lib/systemd/system")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, unit := range units {
		content, err := nodeFiles.ReadFile("files/usr/lib/systemd/system/" + unit.Name())
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(root, "usr/lib/systemd/system", unit.Name())
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, target)
	}
	// Units that are there on a node only.
	for _, name := range []string{"sysinit.target", "basic.target", "shutdown.target", "multi-user.target", "local-fs.target", "network-pre.target", "systemd-modules-load.service", "systemd-networkd.service", "-.slice", "runtime.slice", "system.slice"} {
		content := "[Unit]\n"
		if strings.HasSuffix(name, ".service") {
			content += "[Service]\nExecStart=/usr/bin/containerd\n"
		}
		if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/system", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--root=" + root}, names...)...).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestNothingOrdersTheAgentAgainstWhatItStarts(t *testing.T) {
	// The agent starts both while its own start job runs: an ordering would deadlock.
	content, err := nodeFiles.ReadFile("files/usr/lib/systemd/system/ovenbird-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if (key == "Before" || key == "After" || key == "Wants" || key == "Requires") && (strings.Contains(value, "kubelet") || strings.Contains(value, "containerd") || strings.Contains(value, "watch")) {
			t.Errorf("ovenbird-agent.service says %s", strings.TrimSpace(line))
		}
	}
	for _, unit := range []string{"kubelet.service", "containerd.service", "ovenbird-watch.service"} {
		content, err := nodeFiles.ReadFile("files/usr/lib/systemd/system/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "ovenbird-agent.service\n") || strings.Contains(string(content), "[Install]") {
			t.Errorf("%s is started or ordered by something else than the agent", unit)
		}
	}
}

func TestTheAgentIsConfinedWithoutAMountNamespace(t *testing.T) {
	const unit = "files/usr/lib/systemd/system/ovenbird-agent.service"
	content, err := nodeFiles.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// Each of these makes one (systemd.exec(5)), and then no disk is mounted for kubelet.
	// ProtectClock makes none, but closes block devices.
	for _, option := range []string{"ProtectSystem", "ProtectHome", "ProtectKernel", "ProtectControlGroups", "ProtectProc", "ProcSubset", "ProtectClock", "Private", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "TemporaryFileSystem", "BindPaths", "RootDirectory", "DynamicUser"} {
		if strings.Contains(string(content), "\n"+option) {
			t.Errorf("ovenbird-agent.service has %s", option)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	path := filepath.Join(t.TempDir(), filepath.Base(unit))
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	// docs/nodes.md says 5.1.
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=51", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
