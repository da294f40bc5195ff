package image

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheMachineGetsItsFiles(t *testing.T) {
	for kind, want := range map[string]struct{ fstab, grown string }{
		rootExt4:   {"PARTUUID=" + strings.ToLower(rootGUID) + " / ext4 defaults,noatime,x-systemd.growfs 0 0\n", "root"},
		rootVerity: {"# The initrd mounts /, /etc, /opt and /var.\n", "var"},
	} {
		t.Run(kind, func(t *testing.T) { checkMachineFiles(t, kind, want.fstab, want.grown) })
	}
}

func checkMachineFiles(t *testing.T, kind, mounts, grown string) {
	root := t.TempDir()
	if err := writeMachineFiles(root, kind); err != nil {
		t.Fatal(err)
	}
	if fstab, err := os.ReadFile(filepath.Join(root, "etc/fstab")); string(fstab) != mounts {
		t.Errorf("fstab is %q (%v), want %q", fstab, err, mounts)
	}
	repart, err := os.ReadFile(filepath.Join(root, "etc/repart.d/50-"+grown+".conf"))
	if err != nil || !strings.HasSuffix(string(repart), "\nType="+grown+"\n") {
		t.Errorf("what is grown is %q (%v), want %s", repart, err, grown)
	}
	err = fs.WalkDir(machineFiles, "machine", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := os.Stat(filepath.Join(root, strings.TrimPrefix(name, "machine")))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v, want mode 644", name, info, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheHostNameComesFromTheLease runs the unit's own command on a lease file.
func TestTheHostNameComesFromTheLease(t *testing.T) {
	unit, err := machineFiles.ReadFile("machine/usr/lib/systemd/system/ovenbird-hostname.service")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(unit), "ExecStart=/bin/sh -c '")
	command, _, _ = strings.Cut(command, "'\n")
	for _, test := range []struct{ name, lease, want string }{
		{"a lease with a name", "# private\nADDRESS=10.0.1.5\nHOSTNAME=ip-10-0-1-5\nDOMAINNAME=example\n", "ip-10-0-1-5\n"},
		{"a lease without a name", "ADDRESS=10.0.1.5\n", "before"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"leases/2": test.lease, "hostname": "before"})
			script := strings.NewReplacer("$$", "$", "/run/systemd/netif", dir, "/proc/sys/kernel", dir).Replace(command)
			if out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got, _ := os.ReadFile(filepath.Join(dir, "hostname")); string(got) != test.want {
				t.Errorf("the host name is %q, want %q", got, test.want)
			}
		})
	}
}

func TestTheMachineHasIPv6WhereItsSubnetHasIt(t *testing.T) {
	content, err := machineFiles.ReadFile("machine/etc/systemd/network/10-machine.network")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	section := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		} else if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			settings[section+key] = value
		}
	}
	// EC2 assigns addresses by DHCPv6, which its advertisements tell to ask and which is asked
	// from a link-local address. IPv4 must not wait for any of it.
	for setting, want := range map[string]string{
		"[Network]IPv6AcceptRA": "yes", "[Network]LinkLocalAddressing": "ipv6", "[Network]DHCP": "ipv4",
		"[IPv6AcceptRA]DHCPv6Client": "yes", "[DHCPv4]UseMTU": "yes",
	} {
		if settings[setting] != want {
			t.Errorf("%s is %q, want %q", setting, settings[setting], want)
		}
	}
}
