package inspect

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// secretFiles end the paths of files that hold credentials.
var secretFiles = []string{
	"/.aws/credentials", "/.azure/accessTokens.json", "/.config/gcloud/credentials.db", "/.docker/config.json",
	"/.git-credentials", "/.kube/config", "/.netrc", "/.npmrc", "/.pgpass", "/.vault-token",
	"/var/lib/kubelet/config.json", "/var/lib/kubelet/kubeconfig", "/var/lib/kubelet/pki/kubelet-client-current.pem",
}

var (
	privateKey = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=:, -]{16}`)
	// An access key's id, or the name of what follows it in configuration.
	awsKey = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z2-7]{16}\b|aws_secret_access_key\s*=\s*[A-Za-z0-9/+]{40}`)
)

// maxSecretFile bounds the files that are searched; a key or a file of credentials is small.
const maxSecretFile = 64 << 10

var secretControls = []control{
	{
		id: "no-ssh-keys", title: "No key opens the node, and no host key is shared by nodes",
		want: "no authorized_keys and no ssh_host_*_key",
		find: func(m *machine) ([]string, error) {
			return m.named(func(name string) bool {
				base := path.Base(name)
				return strings.HasPrefix(base, "authorized_keys") || strings.HasPrefix(base, "ssh_host_") && strings.Contains(base, "_key")
			}), nil
		},
	},
	{
		id: "no-private-keys", title: "No private key is in the image, container images included",
		want: "no file with a PEM private key",
		find: func(m *machine) ([]string, error) { return m.containing(privateKey) },
	},
	{
		id: "no-credentials", title: "No credentials of a cloud, cluster or registry are in the image",
		want: "no file where such are kept, and no AWS access key",
		find: func(m *machine) ([]string, error) {
			found, err := m.containing(awsKey)
			files := m.named(func(name string) bool {
				return slices.ContainsFunc(secretFiles, func(end string) bool { return strings.HasSuffix(name, end) })
			})
			found = append(found, files...)
			slices.Sort(found)
			return slices.Compact(found), err
		},
	},
}

// named lists the regular files whose path is like that.
func (m *machine) named(like func(string) bool) []string {
	var found []string
	for _, name := range m.paths {
		if m.entries[name].mode.IsRegular() && like(name) {
			found = append(found, name)
		}
	}
	return found
}

// containing lists the files that could hold a secret and match pattern.
func (m *machine) containing(pattern *regexp.Regexp) ([]string, error) {
	var found []string
	for _, name := range m.paths {
		e := m.entries[name]
		if !e.mode.IsRegular() || e.size == 0 || e.size > maxSecretFile || strings.HasPrefix(name, "/usr/lib/modules/") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(m.Root, name))
		if err != nil {
			return nil, err
		}
		if pattern.Match(content) {
			found = append(found, name)
		}
	}
	return found, nil
}

// perNode are files that must differ between nodes.
var perNode = []string{
	"/etc/hostname", "/var/lib/dbus/machine-id", "/var/lib/ovenbird/machine-id", "/var/lib/systemd/random-seed",
	"/var/lib/systemd/credential.secret", "/etc/iscsi/initiatorname.iscsi", "/etc/nvme/hostid", "/etc/nvme/hostnqn",
}

var leftoverControls = []control{
	{
		id: "no-identity", title: "The image has no identity that nodes would share",
		want: "an empty /etc/machine-id, and none of " + strings.Join(perNode, ", "),
		find: func(m *machine) ([]string, error) {
			found := m.named(func(name string) bool { return slices.Contains(perNode, name) })
			if id, ok := m.entries["/etc/machine-id"]; !ok || !id.mode.IsRegular() || id.size != 0 {
				found = append(found, "/etc/machine-id is not an empty file")
			}
			return found, nil
		},
	},
	{
		id: "no-package-caches", title: "The package manager's lists and archives are not in the image",
		want: "no file below /var/lib/apt/lists and /var/cache/apt",
		find: func(m *machine) ([]string, error) {
			return m.named(func(name string) bool {
				return path.Base(name) != "lock" && (strings.HasPrefix(name, "/var/lib/apt/lists/") || strings.HasPrefix(name, "/var/cache/apt/"))
			}), nil
		},
	},
	{
		id: "no-traces", title: "No logs, temporary files or histories of the bake are in the image",
		want: "no file below /var/log, /tmp, /var/tmp and /run, and no shell history",
		find: func(m *machine) ([]string, error) {
			return m.named(func(name string) bool {
				for _, dir := range []string{"/var/log/", "/tmp/", "/var/tmp/", "/run/"} {
					if strings.HasPrefix(name, dir) {
						return true
					}
				}
				return strings.HasSuffix(name, "_history") && !inLayer(name) && !strings.HasPrefix(name, "/usr/")
			}), nil
		},
	},
	{
		id: "no-cron", title: "Nothing runs by a schedule but systemd's timers", source: "CIS Debian 12 2.4",
		want: "no cron, anacron or at",
		find: func(m *machine) ([]string, error) {
			var found []string
			for _, name := range []string{"cron", "anacron", "at", "cronie", "systemd-cron"} {
				if m.packages[name] {
					found = append(found, "package "+name)
				}
			}
			return found, nil
		},
	},
}
