// Package network lays the lab's VPCs out inside its namespace: a bridge for each subnet,
// the router's, the resolvers' and the endpoints' addresses, and a port for each instance.
// All of it works on the namespace of the calling thread and on no other, with netlink and
// /proc.
package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// sysctls make the namespace a router, and as strict about sources as EC2 is: rp_filter
// drops what comes from a subnet with a source address of another.
var sysctls = [...]struct{ key, value string }{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv4/conf/all/rp_filter", "1"},
	{"net/ipv4/conf/default/rp_filter", "1"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/default/send_redirects", "0"},
	// The VPC is IPv4 only; loopback keeps ::1.
	{"net/ipv6/conf/default/disable_ipv6", "1"},
}

// Setup builds the plan in the calling thread's namespace. What is there already stays.
func Setup(plan vpc.Plan, owner string) error {
	for _, s := range sysctls {
		err := os.WriteFile("/proc/sys/"+s.key, []byte(s.value), 0)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.key, "net/ipv6/") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("set sysctl %s to %s: %w", s.key, s.value, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	// The kernel answers ARP for any of its addresses on any interface, so addresses on
	// lo can be reached from every subnet.
	for _, addr := range []netip.Addr{plan.Metadata, plan.Resolver, plan.Endpoint, plan.Registry, plan.ControlPlane} {
		if err := address(lo, netip.PrefixFrom(addr, 32)); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	for _, subnet := range plan.Subnets {
		if err := bridge(subnet, owner); err != nil {
			return fmt.Errorf("make subnet %s: %w", subnet.ID, err)
		}
	}
	return nil
}

// Owner tells whose lab the calling thread's namespace is: what Setup was given. Empty
// when it is no lab's.
func Owner(plan vpc.Plan) string {
	link, err := netlink.LinkByName(plan.Subnets[0].Bridge)
	if err != nil {
		return ""
	}
	return link.Attrs().Alias
}

func bridge(subnet vpc.Subnet, owner string) error {
	link, err := netlink.LinkByName(subnet.Bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = subnet.Bridge
		// Set, or a bridge takes the lowest address of its ports and instances would see
		// their router change.
		router := subnet.Router().As4()
		attrs.HardwareAddr = append(net.HardwareAddr{0x02, 0x00}, router[:]...)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make bridge %s: %w", subnet.Bridge, err)
		}
		link, err = netlink.LinkByName(subnet.Bridge)
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", subnet.Bridge, err)
	}
	if err := netlink.LinkSetAlias(link, owner); err != nil {
		return fmt.Errorf("name the owner of bridge %s: %w", subnet.Bridge, err)
	}
	if err := address(link, netip.PrefixFrom(subnet.Router(), subnet.CIDR.Bits())); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring bridge %s up: %w", subnet.Bridge, err)
	}
	return nil
}

func address(link netlink.Link, prefix netip.Prefix) error { return labelled(link, prefix, "") }

// labelled gives an interface an address that is found again by its label.
func labelled(link netlink.Link, prefix netip.Prefix, label string) error {
	addr := &netlink.Addr{Label: label, IPNet: &net.IPNet{
		IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, prefix, err)
	}
	return nil
}

// Port is an instance's place on its subnet.
type Port struct {
	Interface string // the tap that the virtual machine opened
	Bridge    string
	MAC       net.HardwareAddr
	Address   netip.Addr
}

// Plug connects the port's interface to its subnet and binds the port to its addresses
// there, as EC2's source check does: frames for the MAC address leave by this port only,
// packets for the IP address go to this MAC address only, and neither can be taken over
// by what another instance sends.
func Plug(port Port) error {
	tap, err := netlink.LinkByName(port.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", port.Interface, err)
	}
	bridge, err := netlink.LinkByName(port.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", port.Bridge, err)
	}
	if err := netlink.LinkSetMaster(tap, bridge); err != nil {
		return fmt.Errorf("connect %s to %s: %w", port.Interface, port.Bridge, err)
	}
	if err := netlink.LinkSetLearning(tap, false); err != nil {
		return fmt.Errorf("stop %s from learning addresses: %w", port.Interface, err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: tap.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State: netlink.NUD_NOARP, HardwareAddr: port.MAC,
	}); err != nil {
		return fmt.Errorf("bind %s to %s: %w", port.MAC, port.Interface, err)
	}
	if err := netlink.NeighSet(neighbour(bridge, port)); err != nil {
		return fmt.Errorf("bind %s to %s: %w", port.Address, port.MAC, err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("bring %s up: %w", port.Interface, err)
	}
	return nil
}

// Unplug frees the port's address. Its interface, and what is bound to it, goes with the
// virtual machine that opened it.
func Unplug(port Port) error {
	bridge, err := netlink.LinkByName(port.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", port.Bridge, err)
	}
	neighbours, err := netlink.NeighList(bridge.Attrs().Index, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list the neighbours on %s: %w", port.Bridge, err)
	}
	bound := slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		addr, _ := netip.AddrFromSlice(n.IP)
		return addr.Unmap() == port.Address
	})
	if !bound {
		return nil
	}
	if err := netlink.NeighDel(neighbour(bridge, port)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("free %s: %w", port.Address, err)
	}
	return nil
}

func neighbour(bridge netlink.Link, port Port) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: bridge.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: port.Address.AsSlice(), HardwareAddr: port.MAC,
	}
}
