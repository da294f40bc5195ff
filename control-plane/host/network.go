package host

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// address is what the network interface brings.
type address struct {
	mac     string
	address netip.Addr
	subnet  netip.Prefix
}

// routeTable holds the routes of what leaves from the fixed address.
const routeTable = 1001

// networkFile is the configuration of the interface, read before the image's own for every
// interface. Answers leave by the interface that the question came in at, as EC2 drops what
// comes from another interface's address; all else goes on leaving by the instance's own. So
// its routes are in a table of their own, which only packets from the address look up. A VPC's
// router has the first address of each subnet (Amazon VPC user guide, "Subnet CIDR blocks").
func (a address) networkFile() rootfs.File {
	router := a.subnet.Masked().Addr().Next()
	text := fmt.Sprintf(`# The address that nodes know. ovenbird host has written this.
[Match]
MACAddress=%[1]s

[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no

[Address]
Address=%[2]s/%[3]d
# The main table has a route to the subnet by the instance's own interface.
AddPrefixRoute=no

[Route]
Destination=%[4]s
Scope=link
PreferredSource=%[2]s
Table=%[6]d

[Route]
Gateway=%[5]s
GatewayOnLink=yes
PreferredSource=%[2]s
Table=%[6]d

[RoutingPolicyRule]
From=%[2]s/32
Table=%[6]d
Priority=%[6]d
`, a.mac, a.address, a.subnet.Bits(), a.subnet.Masked(), router, routeTable)
	return rootfs.File{Path: "/run/systemd/network/05-ovenbird-control-plane.network", Data: []byte(text)}
}

// configureNetwork leaves the interface's configuration to networkd. A process that dies between
// the two is followed by one that finds the file, so it is always told.
func (h *Host) configureNetwork(ctx context.Context) error {
	if err := h.Root.Apply(h.at.networkFile()); err != nil {
		return err
	}
	return h.Network.Reload(ctx)
}
