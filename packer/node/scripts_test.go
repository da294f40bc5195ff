package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runScript runs one of our scripts with stand-ins for programs: each notes its name,
// arguments and umask, and exits with a status. It returns the notes.
func runScript(t *testing.T, script string, programs map[string]int, args ...string) string {
	t.Helper()
	content, err := scripts.ReadFile("scripts/" + script)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	for name, status := range programs {
		program := fmt.Sprintf("#!/bin/sh\necho %s $* umask $(umask) >>%s\nexit %d\n", name, notes, status)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The stand-ins end the scripts before they touch this machine.
	cmd := exec.Command("sh", append([]string{"-c", "umask 077\n" + string(content), script}, args...)...)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	t.Logf("%s: %v: %s", script, err, out)
	said, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func TestTheLoginsUmaskDoesNotReachTheNode(t *testing.T) {
	for script, program := range map[string]string{"install.sh": "tar", "import.sh": "mktemp", "packages.sh": "apt-get"} {
		notes := runScript(t, script, map[string]int{program: 1, "cloud-init": 0}, t.TempDir())
		for line := range strings.Lines(notes) {
			if !strings.HasSuffix(line, " umask 0022\n") {
				t.Errorf("%s: %s", script, line)
			}
		}
	}
}

func TestPackagesAreInstalledAfterTheCloudsFirstBoot(t *testing.T) {
	notes := runScript(t, "packages.sh", map[string]int{"cloud-init": 1, "apt-get": 0}, "conntrack", "nftables")
	const want = `cloud-init status --wait umask 0022
apt-get -q -o DPkg::Lock::Timeout=300 update umask 0022
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends conntrack nftables umask 0022
`
	if notes != want {
		t.Errorf("what ran:\n%s\nwant\n%s", notes, want)
	}
}
