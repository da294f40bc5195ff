package systemd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// EnvironmentFiles returns the files by which systemd gives environment to its services,
// where Amazon's node agent writes them. Those for whom there is none must not exist.
// systemd reads them on Reload.
func EnvironmentFiles(environment nodeconfig.Environment) []rootfs.File {
	files := []rootfs.File{{
		Path: "/etc/systemd/system.conf.d/environment.conf",
		Data: assignments("[Manager]", "DefaultEnvironment", environment[nodeconfig.EnvironmentDefault]),
	}}
	for _, service := range []struct{ unit, key string }{
		{"containerd", nodeconfig.EnvironmentContainerd},
		{"kubelet", nodeconfig.EnvironmentKubelet},
	} {
		files = append(files, rootfs.File{
			Path: "/etc/systemd/system/" + service.unit + ".service.d/environment.conf",
			Data: assignments("[Service]", "Environment", environment[service.key]),
		})
	}
	return files
}

func assignments(section, setting string, variables map[string]string) []byte {
	if len(variables) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintln(&b, section)
	// systemd.syntax(7): backslash and quote are escaped, % begins a specifier.
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&b, "%s=\"%s=%s\"\n", setting, name, escape.Replace(variables[name]))
	}
	return []byte(b.String())
}
