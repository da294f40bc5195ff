package containerd

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// certsDir is where containerd looks for a registry's hosts.toml, by our config_path.
const certsDir = "/etc/containerd/certs.d"

var registryHost = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?$`)

// registries returns the tables of a user's configuration that are about registries: the
// plugin's of containerd 1 and that of containerd 2.
func registries(config map[string]any) []map[string]any {
	plugins, _ := config["plugins"].(map[string]any)
	var found []map[string]any
	for _, name := range []string{"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"} {
		plugin, _ := plugins[name].(map[string]any)
		if registry, ok := plugin["registry"].(map[string]any); ok {
			found = append(found, registry)
		}
	}
	return found
}

// takeMirrors makes files of the mirrors in a user's configuration and takes them out of
// it: containerd 2 refuses them beside config_path, and then serves no pod. It takes logins
// out too, which containerd 2 ignores there, so that no secret lies in the file for nothing.
func takeMirrors(config map[string]any) (files []rootfs.File, changed bool, err error) {
	for _, registry := range registries(config) {
		if mirrors, ok := registry["mirrors"].(map[string]any); ok {
			for _, host := range slices.Sorted(maps.Keys(mirrors)) {
				file, err := hostsFile(host, mirrors[host])
				if err != nil {
					return nil, false, fmt.Errorf("spec.containerd.config: registry.mirrors: %w", err)
				}
				files = append(files, file)
			}
			if registry["config_path"] == "" { // as it had to be beside mirrors
				delete(registry, "config_path")
			}
		}
		for _, key := range []string{"mirrors", "configs", "auths"} {
			if _, ok := registry[key]; ok {
				delete(registry, key)
				changed = true
			}
		}
	}
	return files, changed, nil
}

// hostsFile returns the hosts.toml of a registry, whose own host containerd tries last. The
// order of the mirrors is theirs in the file.
func hostsFile(host string, mirror any) (rootfs.File, error) {
	dir := host
	if host == "*" {
		dir = "_default"
	} else if !registryHost.MatchString(host) {
		return rootfs.File{}, fmt.Errorf("%q is not a registry's host", host)
	}
	table, _ := mirror.(map[string]any)
	endpoints, ok := table["endpoint"].([]any)
	if !ok {
		return rootfs.File{}, fmt.Errorf("%s: want endpoint, a list of URLs", host)
	}
	var b strings.Builder
	b.WriteString("# From registry.mirrors of spec.containerd.config.\n")
	for _, endpoint := range endpoints {
		text, _ := endpoint.(string)
		if !strings.Contains(text, "://") {
			text = "https://" + text
		}
		// What is wrong with it may be a password, so it is not in the error.
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || (u.Scheme != "https" && u.Scheme != "http") {
			return rootfs.File{}, fmt.Errorf("%s: an endpoint is not of the form https://host[:port][/path]", host)
		}
		fmt.Fprintf(&b, "\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", u.String())
		if u.Path != "" { // there, an endpoint's path is the whole of it
			b.WriteString("override_path = true\n")
		}
	}
	return rootfs.File{Path: certsDir + "/" + dir + "/hosts.toml", Data: []byte(b.String())}, nil
}

// Warnings returns what of a user's TOML does not take effect as it stands, a line each and
// none with a secret.
func Warnings(user string) []string {
	var config map[string]any
	if toml.Unmarshal([]byte(user), &config) != nil {
		return nil // which Files says
	}
	var warnings []string
	for _, registry := range registries(config) {
		if _, ok := registry["mirrors"]; ok {
			warnings = append(warnings, "registry.mirrors: containerd 2 refuses it, so it becomes "+certsDir+"/HOST/hosts.toml")
		}
		for _, key := range []string{"configs", "auths"} {
			if _, ok := registry[key]; ok {
				warnings = append(warnings, "registry."+key+": containerd 2 does not read it beside config_path, so it has no effect; use imagePullSecrets, or "+certsDir+"/HOST/hosts.toml for certificates")
			}
		}
	}
	return warnings
}
