package inspect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// nodeSysctls are what kubelet with protectKernelDefaults and the pods of a node need.
var nodeSysctls = map[string]string{
	"fs.inotify.max_user_instances":      "8192",
	"fs.inotify.max_user_watches":        "524288",
	"kernel.panic":                       "10",
	"kernel.panic_on_oops":               "1",
	"kernel.pid_max":                     "4194304",
	"net.bridge.bridge-nf-call-iptables": "1",
	"net.ipv4.ip_forward":                "1",
	"vm.max_map_count":                   "524288",
	"vm.overcommit_memory":               "1",
}

// hardenedSysctls are values that differ from the kernel's own.
var hardenedSysctls = map[string]string{
	"net.ipv4.conf.*.accept_redirects": "0",
	"net.ipv4.conf.*.secure_redirects": "0",
	"net.ipv4.conf.*.send_redirects":   "0",
	"net.ipv6.conf.*.accept_redirects": "0",
}

// defaultSysctls are values that Linux has when nothing sets them, and that nothing may
// change.
var defaultSysctls = map[string]string{
	"fs.suid_dumpable":                           "0",
	"kernel.randomize_va_space":                  "2",
	"net.ipv4.conf.all.accept_source_route":      "0",
	"net.ipv4.icmp_echo_ignore_broadcasts":       "1",
	"net.ipv4.icmp_ignore_bogus_error_responses": "1",
	"net.ipv4.tcp_syncookies":                    "1",
	"net.ipv6.conf.all.accept_source_route":      "0",
}

// weakening are kernel arguments that take a protection away, or that start a shell.
var weakening = []string{
	"apparmor=0", "debugfs=on", "init_on_alloc=0", "iomem=relaxed", "lockdown=none", "mitigations=off", "nokaslr",
	"nopti", "norandmaps", "nosmap", "nosmep", "nospectre_v1", "nospectre_v2", "pti=off",
	"spectre_v2=off", "rd.break", "vsyscall=emulate",
	"1", "-b", "-s", "S", "emergency", "rescue", "s", "single", // systemd(1): rescue.target and emergency.target
	"systemd.unit=emergency.target", "systemd.unit=rescue.target",
	"systemd.wants=debug_shell.service", "systemd.wants=emergency.target", "systemd.wants=rescue.target",
}

// weakens tells whether an argument is one of those, or gives a shell or a program of its
// own in place of what the node starts.
func weakens(argument string) bool {
	// systemd takes - for _ in names.
	argument = strings.ReplaceAll(argument, `"`, "")
	key, value, has := strings.Cut(argument, "=")
	switch strings.ReplaceAll(key, "-", "_") {
	case "init", "rdinit", "systemd.run":
		return has
	case "systemd.debug_shell":
		// Alone, with yes or with a terminal.
		return !slices.Contains([]string{"0", "f", "false", "n", "no", "off"}, strings.ToLower(value))
	case "systemd.unit", "systemd.wants":
		argument = strings.ReplaceAll(argument, "-", "_")
	}
	return slices.Contains(weakening, argument)
}

// unwantedModules are kernel modules that CIS asks to be unavailable.
var unwantedModules = []string{
	"cramfs", "freevxfs", "hfs", "hfsplus", "jffs2", "udf", "usb-storage", "dccp", "rds", "tipc",
}

var kernelControls = []control{
	{
		id: "sysctls-node", title: "Kernel settings that kubelet and pods need", needs: isNode,
		want: settings(nodeSysctls),
		find: func(m *machine) ([]string, error) { return m.differing(nodeSysctls, false), nil },
	},
	{
		id: "sysctls-redirects", title: "The node neither sends nor follows ICMP redirects", source: "CIS Debian 12 3.3.2, 3.3.5, 3.3.6",
		want: settings(hardenedSysctls),
		find: func(m *machine) ([]string, error) { return m.differing(hardenedSysctls, false), nil },
	},
	{
		id: "sysctls-kernel-defaults", title: "Nothing takes back the kernel's safe defaults", source: "CIS Debian 12 1.5.1, 1.5.3, 3.3.3, 3.3.4, 3.3.8, 3.3.10",
		want: settings(defaultSysctls),
		find: func(m *machine) ([]string, error) { return m.differing(defaultSysctls, true), nil },
	},
	{
		id: "no-core-dump-collector", title: "Core dumps are not kept", source: "CIS Debian 12 1.5.3",
		want: "no systemd-coredump or apport, and no pipe in kernel.core_pattern",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range []string{"systemd-coredump", "apport", "kdump-tools"} {
				if m.packages[name] {
					found = append(found, "package "+name)
				}
			}
			if pattern := m.sysctls["kernel.core_pattern"]; strings.HasPrefix(pattern, "|") {
				found = append(found, "kernel.core_pattern = "+pattern)
			}
			return found, nil
		},
	},
	{
		id: "kernel-arguments", title: "No kernel argument takes a protection away",
		want: "none of " + strings.Join(weakening, " ") + ", init=, rdinit=, systemd.run=, systemd.debug_shell",
		find: func(m *machine) ([]string, error) {
			var found []string
			for argument := range strings.FieldsSeq(m.CommandLine) {
				if weakens(argument) {
					found = append(found, argument)
				}
			}
			return found, nil
		},
	},
	{
		id: "verified-root", title: "The kernel verifies the root file system as it reads it", source: "CIS Debian 12 1.4, 6.3",
		want: "one roothash= on the kernel's command line, with a SHA-256, and nothing that turns it off",
		needs: func(m *machine) string {
			if !m.Verity {
				return `the template says root_filesystem = "ext4": a root that can be written cannot be verified`
			}
			return ""
		},
		find: func(m *machine) ([]string, error) {
			var found []string
			hashes := 0
			for argument := range strings.FieldsSeq(m.CommandLine) {
				if hash, is := strings.CutPrefix(argument, "roothash="); is {
					hashes++
					if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size || hashes > 1 {
						found = append(found, argument)
					}
				}
				if argument == "systemd.verity=0" || argument == "rd.systemd.verity=0" || strings.HasPrefix(argument, "root=") {
					found = append(found, argument)
				}
			}
			if hashes == 0 {
				found = append(found, "no roothash=")
			}
			return found, nil
		},
	},
	{
		id: "kernel-modules", title: "File systems and protocols that nothing uses are not in the image", source: "CIS Debian 12 1.1.1, 3.2",
		want: "no module " + strings.Join(unwantedModules, ", "),
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range m.below("/usr/lib/modules") {
				module, isModule := strings.CutSuffix(strings.TrimSuffix(path.Base(name), ".xz"), ".ko")
				if isModule && slices.Contains(unwantedModules, strings.ReplaceAll(module, "_", "-")) {
					found = append(found, name)
				}
			}
			return found, nil
		},
	},
	{
		id: "no-radio", title: "There is no wireless or Bluetooth driver", source: "CIS Debian 12 3.1.2, 3.1.3",
		want: "no drivers/net/wireless or drivers/bluetooth among the kernel's modules",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range m.below("/usr/lib/modules") {
				if strings.HasSuffix(name, "/drivers/net/wireless") || strings.HasSuffix(name, "/drivers/bluetooth") {
					found = append(found, name)
				}
			}
			return found, nil
		},
	},
	{
		id: "separate-tmp", title: "/tmp is in memory, without devices and setuid programs", source: "CIS Debian 12 1.1.2.1",
		want: "tmp.mount wanted by local-fs.target, with nosuid and nodev",
		find: func(m *machine) ([]string, error) {
			text, err := m.text("/usr/lib/systemd/system/tmp.mount")
			if err != nil {
				return nil, err
			}
			var found []string
			if m.wantedBy("tmp.mount") == "" || m.masked("tmp.mount") {
				found = append(found, "tmp.mount is not enabled")
			}
			for _, option := range []string{"nosuid", "nodev"} {
				if !strings.Contains(text, option) {
					found = append(found, "tmp.mount has no option "+option)
				}
			}
			return found, nil
		},
	},
}

// differing lists the settings that the image does not make; with lenient those that it
// does not make at all are right. A setting of its own counts in place of a pattern's
// (sysctl.d(5)), so that each that a wanted pattern matches must have its value.
func (m *machine) differing(want map[string]string, lenient bool) []string {
	var found []string
	for key, value := range want {
		_, set := m.sysctls[key]
		if !set && !lenient {
			found = append(found, key+" is not set")
		}
		for _, name := range slices.Sorted(maps.Keys(m.sysctls)) {
			by, _ := path.Match(name, key) // a pattern that is none sets nothing
			covered, _ := path.Match(key, name)
			switch got := m.sysctls[name]; {
			case name != key && !covered && (set || !by): // of something else, or outdone by the key's own
			case got == leftAlone && lenient:
			case got != value:
				found = append(found, fmt.Sprintf("%s = %s", name, got))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func settings(want map[string]string) string {
	var list []string
	for key, value := range want {
		list = append(list, key+" = "+value)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
