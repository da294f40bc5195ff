package inspect

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

var unitControls = []control{
	{
		id: "units-enabled", title: "What a node starts with is enabled",
		want: "network, resolver, time and the agent are wanted by a target, and not masked",
		find: func(m *machine) ([]string, error) {
			units := []string{"systemd-networkd.service", "systemd-resolved.service", "chrony.service"}
			if m.exists("/usr/bin/ovenbird-agent") {
				units = append(units, "ovenbird-agent.service")
			}
			var found []string
			for _, unit := range units {
				if m.wantedBy(unit) == "" {
					found = append(found, unit+" is not enabled")
				} else if m.masked(unit) {
					found = append(found, unit+" is masked")
				}
			}
			return found, nil
		},
	},
	{
		id: "units-left-to-the-agent", title: "containerd and kubelet wait for the agent", needs: isNode,
		want: "both units are there, and no target wants them",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, unit := range []string{"containerd.service", "kubelet.service"} {
				if !m.exists("/usr/lib/systemd/system/" + unit) {
					found = append(found, unit+" is missing")
				}
				if by := m.wantedBy(unit); by != "" {
					found = append(found, unit+" is wanted by "+by)
				}
			}
			return found, nil
		},
	},
	{
		id: "units-masked", title: "What a node never needs does not start",
		want: "masked units lead to /dev/null",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, unit := range m.Masked {
				if !m.masked(unit) {
					found = append(found, unit+" is not masked")
				}
			}
			return found, nil
		},
	},
	{
		id: "one-time-source", title: "One daemon keeps the time, from Amazon's time service", source: "CIS Debian 12 2.3",
		want: "chrony with server 169.254.169.123, and no systemd-timesyncd or ntpd",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range []string{"systemd-timesyncd", "ntp", "ntpsec", "openntpd"} {
				if m.packages[name] {
					found = append(found, "package "+name+" is installed")
				}
			}
			text, err := m.text("/etc/chrony/chrony.conf")
			if !strings.Contains("\n"+text, "\nserver 169.254.169.123") {
				found = append(found, "/etc/chrony/chrony.conf names no server 169.254.169.123")
			}
			return found, err
		},
	},
	{
		id: "no-ssh-server", title: "There is no SSH server", source: "CIS Debian 12 5.1",
		want: "no package, program or unit of one",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range []string{
				"/usr/sbin/sshd", "/usr/lib/systemd/system/ssh.service", "/usr/lib/systemd/system/ssh.socket",
				"/usr/sbin/dropbear", "/usr/sbin/tinysshd",
			} {
				if m.exists(name) {
					found = append(found, name)
				}
			}
			return found, nil
		},
	},
	{
		id: "no-network-services", title: "No server or client that a node does not need is installed", source: "CIS Debian 12 2.1, 2.2",
		// rpcbind is not listed: nfs-common, which NFS volumes need, depends on it.
		want: "none of " + strings.Join(unwantedPackages, ", "),
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range unwantedPackages {
				if m.packages[name] {
					found = append(found, "package "+name)
				}
			}
			return found, nil
		},
	},
}

var unwantedPackages = []string{
	"apache2", "autofs", "avahi-daemon", "bind9", "cups", "dnsmasq", "dovecot-core", "exim4-daemon-light",
	"ftp", "inetutils-telnet", "isc-dhcp-server", "ldap-utils", "nginx", "nis", "postfix", "rsh-client",
	"rsync", "samba", "slapd", "snmpd", "squid", "talk", "telnet", "tftpd-hpa", "vsftpd", "xinetd", "xserver-common", "ypserv",
}

// wantedBy is the target whose start starts the unit, or "".
func (m *machine) wantedBy(unit string) string {
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system"} {
		for _, name := range m.below(dir) {
			parent := path.Base(path.Dir(name))
			if path.Base(name) == unit && (strings.HasSuffix(parent, ".wants") || strings.HasSuffix(parent, ".requires")) {
				return strings.TrimSuffix(strings.TrimSuffix(parent, ".wants"), ".requires")
			}
		}
	}
	return ""
}

// masked reports whether an administrator's unit file keeps the unit from starting:
// systemd takes an empty one for a link to /dev/null.
func (m *machine) masked(unit string) bool {
	const dir = "/etc/systemd/system"
	e, ok := m.entries[dir+"/"+unit]
	if e.link == "" {
		return ok && e.mode.IsRegular() && e.size == 0
	}
	return e.link == "/dev/null" || path.Join(dir, e.link) == "/dev/null"
}

// versioned are the programs whose version the release fixes, and the Go module that
// each is built from.
var versioned = []struct{ field, program, module string }{
	{"kubernetes", "/usr/bin/kubelet", "k8s.io/kubernetes"},
	{"containerd", "/usr/bin/containerd", "github.com/containerd/containerd/v2"},
	{"containerd", "/usr/bin/containerd-shim-runc-v2", "github.com/containerd/containerd/v2"},
	{"runc", "/usr/bin/runc", "github.com/opencontainers/runc"},
	{"cniPlugins", "/opt/cni/bin/bridge", "github.com/containernetworking/plugins"},
}

var versionControls = []control{{
	id: "versions", title: "Programs have the versions that the image says it has", needs: isNode,
	want: "the versions of /etc/ovenbird/release.json",
	find: func(m *machine) ([]string, error) {
		text, err := m.text("/etc/ovenbird/release.json")
		if err != nil {
			return nil, err
		}
		release := map[string]string{}
		if err := json.Unmarshal([]byte(text), &release); err != nil {
			return []string{fmt.Sprintf("/etc/ovenbird/release.json is not readable: %v", err)}, nil
		}
		var found []string
		for _, v := range versioned {
			at := m.resolve(v.program)
			if at == "" {
				found = append(found, v.program+" is missing")
				continue
			}
			is, err := isVersion(filepath.Join(m.Root, at), v.module, release[v.field])
			if err != nil {
				return nil, err
			}
			if !is {
				found = append(found, fmt.Sprintf("%s is not %s %s", v.program, v.field, release[v.field]))
			}
		}
		return found, nil
	},
}}

// isVersion reports whether a program is built from a module at a version, as the linker
// has recorded it; a build of the module's own checkout records none, but stamps it.
func isVersion(file, module, version string) (bool, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return false, nil //nolint:nilerr // a program that is not Go's is not that version of it
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == module && strings.HasPrefix(dep.Version, "v") {
			return dep.Version == "v"+version, nil
		}
	}
	content, err := os.ReadFile(file)
	return version != "" && bytes.Contains(content, []byte(version)), err
}
