package systemd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// ResolverFile returns the file by which systemd-resolved takes the name servers and search
// domains of a NodeConfig. systemd-resolved reads it when it starts. Without any it must not
// exist.
func ResolverFile(network nodeconfig.Network) rootfs.File {
	var b strings.Builder
	domains := slices.Clone(network.Domains)
	if len(network.Nameservers) > 0 {
		fmt.Fprintf(&b, "DNS=%s\n", strings.Join(network.Nameservers, " "))
		// resolved.conf(5): without this, the servers of the DHCP lease are asked as well.
		domains = append(domains, "~.")
	}
	if len(domains) > 0 {
		fmt.Fprintf(&b, "Domains=%s\n", strings.Join(domains, " "))
	}
	file := rootfs.File{Path: "/etc/systemd/resolved.conf.d/40-nodeadm.conf"}
	if b.Len() > 0 {
		file.Data = []byte("[Resolve]\n" + b.String())
	}
	return file
}
