package inspect

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// setuidPrograms may run as another user than who starts them: those of Debian's
// essential packages and of dbus. The node itself runs none of them.
var setuidPrograms = []string{
	"/usr/bin/chage", "/usr/bin/chfn", "/usr/bin/chsh", "/usr/bin/expiry", "/usr/bin/gpasswd", "/usr/bin/mount",
	"/usr/bin/newgrp", "/usr/bin/passwd", "/usr/bin/su", "/usr/bin/umount",
	"/usr/lib/dbus-1.0/dbus-daemon-launch-helper", "/usr/sbin/unix_chkpwd",
	"/usr/sbin/mount.nfs", // of nfs-common
}

// accountFiles are the permissions that each may have at most.
var accountFiles = map[string]fs.FileMode{
	"/etc/passwd": 0o644, "/etc/passwd-": 0o644, "/etc/group": 0o644, "/etc/group-": 0o644, "/etc/shells": 0o644,
	"/etc/shadow": 0o640, "/etc/shadow-": 0o640, "/etc/gshadow": 0o640, "/etc/gshadow-": 0o640,
	"/etc/security/opasswd": 0o600,
}

var fileControls = []control{
	{
		id: "no-world-writable", title: "No file or directory can be written by everybody", source: "CIS Debian 12 7.1.11",
		want: "none, but directories with the sticky bit",
		find: func(m *machine) ([]string, error) {
			return m.filesWhere(func(name string, e entry) bool {
				sticky := e.mode.IsDir() && e.mode&fs.ModeSticky != 0
				return (e.mode.IsRegular() || e.mode.IsDir()) && e.mode&0o002 != 0 && !sticky
			}), nil
		},
	},
	{
		id: "no-setuid-surprises", title: "Only known programs run as another user than who starts them", source: "CIS Debian 12 7.1.13",
		want: "set user or group id on " + strings.Join(setuidPrograms, ", ") + " only, outside of container images",
		find: func(m *machine) ([]string, error) {
			return m.filesWhere(func(name string, e entry) bool {
				return e.mode.IsRegular() && e.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 &&
					!inLayer(name) && !slices.Contains(setuidPrograms, name)
			}), nil
		},
	},
	{
		id: "no-unowned-files", title: "Every file has an owner and a group that exist", source: "CIS Debian 12 7.1.12",
		want: "owners of /etc/passwd and /etc/group, outside of container images",
		find: func(m *machine) ([]string, error) {
			users, groups := ids(m.users), ids(m.groups)
			return m.filesWhere(func(name string, e entry) bool {
				return !inLayer(name) && (!users[fmt.Sprint(e.uid)] || !groups[fmt.Sprint(e.gid)])
			}), nil
		},
	},
	{
		id: "system-files-owner", title: "System files belong to root, who alone can write them",
		want: "owner root below /boot, /etc, /opt and /usr, and no write permission for another group",
		find: func(m *machine) ([]string, error) {
			return m.filesWhere(func(name string, e entry) bool {
				system := slices.ContainsFunc([]string{"/boot", "/etc", "/opt", "/usr"}, func(dir string) bool {
					return name == dir || strings.HasPrefix(name, dir+"/")
				})
				return system && !inLayer(name) && e.mode&fs.ModeSymlink == 0 &&
					(e.uid != 0 || e.gid != 0 && e.mode&0o020 != 0)
			}), nil
		},
	},
	{
		id: "account-files", title: "The files of accounts have the right owner and permissions", source: "CIS Debian 12 7.1.1 to 7.1.10",
		want: "root, group root or shadow; 644 or stricter, shadow and gshadow 640 or stricter",
		find: func(m *machine) ([]string, error) {
			shadow := ""
			for _, g := range m.groups {
				if g.name == "shadow" {
					shadow = g.id
				}
			}
			return m.filesWhere(func(name string, e entry) bool {
				most, ok := accountFiles[name]
				return ok && (e.mode.Perm()&^most != 0 || e.uid != 0 || e.gid != 0 && fmt.Sprint(e.gid) != shadow)
			}), nil
		},
	},
	{
		id: "home-of-root", title: "Nobody but root can read root's home directory or write on root's path", source: "CIS Debian 12 5.4.2.5",
		want: "/root 750 or stricter, and the directories of PATH 755 or stricter, of root",
		find: func(m *machine) ([]string, error) {
			var found []string
			for dir, most := range map[string]fs.FileMode{
				"/root": 0o750, "/usr/bin": 0o755, "/usr/sbin": 0o755, "/usr/local/bin": 0o755, "/usr/local/sbin": 0o755,
			} {
				e, ok := m.entries[dir]
				if ok && (e.uid != 0 || e.mode.Perm()&^most != 0) {
					found = append(found, m.describe(dir))
				}
			}
			slices.Sort(found)
			return found, nil
		},
	},
}

// filesWhere describes the files for which is holds.
func (m *machine) filesWhere(is func(string, entry) bool) []string {
	var found []string
	for _, name := range m.paths {
		if is(name, m.entries[name]) {
			found = append(found, m.describe(name))
		}
	}
	return found
}

func ids(accounts []account) map[string]bool {
	set := map[string]bool{}
	for _, a := range accounts {
		set[a.id] = true
	}
	return set
}
