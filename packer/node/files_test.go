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
	for _, program := range []string{"/usr/bin/kubelet", "/usr/bin/containerd", "/usr/bin/ovenbird-agent", "/usr/bin/ovenbird", "/usr/sbin/iptables", "/usr/sbin/nft"} {
		writeProgram(t, filepath.Join(root, program))
	}
	const dir = "/usr/lib/systemd/system/"
	entries, err := embedded(nodeFiles, "files")
	if err != nil {
		t.Fatal(err)
	}
	more, err := embedded(controlPlaneFiles, "control-plane-files")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range append(entries, more...) {
		if !strings.HasPrefix(file.path, dir) {
			continue
		}
		target := filepath.Join(root, file.path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, file.content, 0o644); err != nil {
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
	for _, unit := range []string{"kubelet.service", "containerd.service", "ovenbird-watch.service", "ovenbird-host.service", "ovenbird.service"} {
		content, err := nodeFiles.ReadFile("files/usr/lib/systemd/system/" + unit)
		if err != nil {
			content, err = controlPlaneFiles.ReadFile("control-plane-files/usr/lib/systemd/system/" + unit)
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "ovenbird-agent.service\n") || strings.Contains(string(content), "[Install]") {
			t.Errorf("%s is started or ordered by something else than the agent", unit)
		}
	}
}

// mountNamespace are options that each make one (systemd.exec(5)), and then no disk is mounted
// for others. ProtectClock makes none, but closes block devices.
var mountNamespace = []string{"ProtectSystem", "ProtectHome", "ProtectKernel", "ProtectControlGroups", "ProtectProc", "ProcSubset", "ProtectClock", "Private", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "TemporaryFileSystem", "BindPaths", "RootDirectory", "DynamicUser"}

func TestWhoMountsIsConfinedWithoutAMountNamespace(t *testing.T) {
	agent, err := nodeFiles.ReadFile("files/usr/lib/systemd/system/ovenbird-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	host, err := controlPlaneFiles.ReadFile("control-plane-files/usr/lib/systemd/system/ovenbird-host.service")
	if err != nil {
		t.Fatal(err)
	}
	for unit, content := range map[string][]byte{"ovenbird-agent.service": agent, "ovenbird-host.service": host} {
		for _, option := range mountNamespace {
			if strings.Contains(string(content), "\n"+option) {
				t.Errorf("%s has %s", unit, option)
			}
		}
	}
	exposed(t, "ovenbird-agent.service", agent, "51") // docs/nodes.md says 5.1
	exposed(t, "ovenbird-host.service", host, "45")
}

func TestTheServiceIsConfinedAndLeavesControlPlanesRunning(t *testing.T) {
	content, err := controlPlaneFiles.ReadFile("control-plane-files/usr/lib/systemd/system/ovenbird.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"KillMode=process", "Restart=always", "Type=notify", "Requires=ovenbird-host.service", "After=ovenbird-host.service"} {
		if !strings.Contains(string(content), "\n"+line+"\n") {
			t.Errorf("ovenbird.service has no %s", line)
		}
	}
	exposed(t, "ovenbird.service", content, "23") // docs/control-plane.md says 2.3
}

// exposed holds a unit to what systemd-analyze makes of it, in tenths.
func exposed(t *testing.T, unit string, content []byte, threshold string) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	path := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+threshold, path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security of %s: %v\n%s", unit, err, out)
	}
}
