package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// resolverLabel marks the addresses on lo that are resolvers of VPCs that were created.
const resolverLabel = "lo:resolver"

// Lay makes the calling thread's namespace, which Setup has built, carry the record's VPCs
// and subnets beside the plan's own, and no others: a bridge for each subnet, the resolver's
// address for each VPC.
//
// The namespace has one routing table. So every subnet reaches every other one, whatever VPC
// it is in, and the lab's endpoints in the first VPC: on AWS that would be peering and public
// endpoints. And so VPCs must not overlap.
func Lay(plan vpc.Plan, record *vpc.Record) error {
	owner := Owner(plan)
	bridges, resolvers := map[string]bool{}, map[netip.Addr]bool{}
	for _, s := range plan.Subnets {
		bridges[s.Bridge] = true
	}
	for _, s := range record.Subnets {
		bridges[s.Bridge] = true
	}
	for _, v := range record.VPCs {
		resolvers[v.Resolver()] = !v.Own
	}
	if err := tidy(owner, bridges, resolvers); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	for addr, created := range resolvers {
		if !created {
			continue
		}
		if err := labelled(lo, netip.PrefixFrom(addr, 32), resolverLabel); err != nil {
			return err
		}
	}
	for _, s := range record.Subnets {
		if err := bridge(s, owner); err != nil {
			return fmt.Errorf("make subnet %s: %w", s.ID, err)
		}
	}
	return nil
}

// tidy removes the owner's bridges and the resolvers that are not to be there.
func tidy(owner string, bridges map[string]bool, resolvers map[netip.Addr]bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Name == "lo" {
			if err := clearResolvers(link, resolvers); err != nil {
				return err
			}
		}
		if link.Type() != "bridge" || attrs.Alias != owner || bridges[attrs.Name] {
			continue
		}
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove bridge %s: %w", attrs.Name, err)
		}
	}
	return nil
}

func clearResolvers(lo netlink.Link, wanted map[netip.Addr]bool) error {
	addresses, err := netlink.AddrList(lo, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list the addresses of lo: %w", err)
	}
	for _, a := range addresses {
		addr, _ := netip.AddrFromSlice(a.IP.To4())
		if a.Label != resolverLabel || wanted[addr] {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s off lo: %w", addr, err)
		}
	}
	return nil
}
