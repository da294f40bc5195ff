package inspect

import (
	"slices"
	"strconv"
	"strings"
)

var accountControls = []control{
	{
		id: "no-passwords", title: "No account has a password", source: "CIS Debian 12 7.2.1, 7.2.2, 5.4.2.4",
		want: "x in /etc/passwd, and ! or * in /etc/shadow",
		find: func(m *machine) ([]string, error) {
			shadow, err := m.accounts("/etc/shadow")
			if err != nil {
				return nil, err
			}
			var found []string
			for _, a := range m.users {
				if a.password != "x" {
					found = append(found, "/etc/passwd: "+a.name)
				}
			}
			for _, a := range shadow {
				// A hash behind an exclamation mark is locked, but it is there to be guessed.
				if a.password == "" || strings.Trim(a.password, "!*") != "" {
					found = append(found, "/etc/shadow: "+a.name)
				}
			}
			return found, nil
		},
	},
	{
		id: "one-root", title: "root alone has user and group 0", source: "CIS Debian 12 5.4.2.1 to 5.4.2.3",
		want: "no other account or group with id 0",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, a := range m.users {
				if a.name != "root" && (a.id == "0" || len(a.fields) > 3 && a.fields[3] == "0") {
					found = append(found, "/etc/passwd: "+a.name)
				}
			}
			for _, g := range m.groups {
				if g.name != "root" && g.id == "0" {
					found = append(found, "/etc/group: "+g.name)
				}
			}
			return found, nil
		},
	},
	{
		id: "no-duplicate-ids", title: "Names and ids of accounts and groups are unique", source: "CIS Debian 12 7.2.5 to 7.2.8",
		want: "each name and id once",
		find: func(m *machine) ([]string, error) {
			return slices.Concat(duplicates("/etc/passwd", m.users), duplicates("/etc/group", m.groups)), nil
		},
	},
	{
		id: "groups-exist", title: "Groups of accounts exist, and nobody is in group shadow", source: "CIS Debian 12 7.2.3, 7.2.4",
		want: "each account's group in /etc/group, and no member of shadow",
		find: func(m *machine) ([]string, error) {
			var found []string
			groups := ids(m.groups)
			for _, a := range m.users {
				if len(a.fields) < 4 || !groups[a.fields[3]] {
					found = append(found, "/etc/passwd: the group of "+a.name)
				}
			}
			for _, g := range m.groups {
				if g.name == "shadow" && len(g.fields) > 3 && g.fields[3] != "" {
					found = append(found, "/etc/group: "+g.fields[3]+" in shadow")
				}
			}
			return found, nil
		},
	},
	{
		id: "no-legacy-entries", title: "No account comes from a directory service by a + entry", source: "CIS Debian 12 7.2",
		want: "no line that starts with + in passwd, shadow, group",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, file := range []string{"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"} {
				text, err := m.text(file)
				if err != nil {
					return nil, err
				}
				if strings.Contains("\n"+text, "\n+") {
					found = append(found, file)
				}
			}
			return found, nil
		},
	},
	{
		id: "no-login-shells", title: "System accounts cannot log in", source: "CIS Debian 12 5.4.2.7",
		want: "nologin or false for ids below 1000, but for root and sync",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, a := range m.users {
				id, err := strconv.Atoi(a.id)
				if err != nil || id >= 1000 && id != 65534 || a.name == "root" || a.name == "sync" || len(a.fields) < 7 {
					continue
				}
				if shell := a.fields[6]; !strings.HasSuffix(shell, "/nologin") && !strings.HasSuffix(shell, "/false") {
					found = append(found, a.name+" has "+shell)
				}
			}
			return found, nil
		},
	},
	{
		id: "umask", title: "What people make is not for everybody to read", source: "CIS Debian 12 5.4.3.3",
		want: "UMASK 027 or stricter in /etc/login.defs",
		find: func(m *machine) ([]string, error) {
			text, err := m.text("/etc/login.defs")
			if err != nil {
				return nil, err
			}
			umask := "unset"
			for line := range strings.Lines(text) {
				if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "UMASK" {
					umask = fields[1]
				}
			}
			if mask, err := strconv.ParseUint(umask, 8, 32); err != nil || mask&0o027 != 0o027 {
				return []string{"UMASK " + umask}, nil
			}
			return nil, nil
		},
	},
}

func duplicates(file string, accounts []account) []string {
	var found []string
	names, numbers := map[string]bool{}, map[string]string{}
	for _, a := range accounts {
		if names[a.name] {
			found = append(found, file+": "+a.name+" is there twice")
		}
		names[a.name] = true
		if other, ok := numbers[a.id]; ok {
			found = append(found, file+": "+a.name+" has the id of "+other)
		} else {
			numbers[a.id] = a.name
		}
	}
	return found
}
