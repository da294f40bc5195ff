// Package vpc is the lab's address plan: one account, one region, one VPC with a subnet
// in each of three zones, and the addresses of what stands in it. It is data and
// arithmetic, but for Lookup, which asks the VPC's resolver.
package vpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Plan is an account's corner of one region.
type Plan struct {
	Partition, Account, Region string
	// Elsewhere is the account's other regions, which hold snapshots, images and
	// parameters, and no instances.
	Elsewhere []string

	VPCID   string
	CIDR    netip.Prefix
	Subnets []Subnet

	// Resolver answers DNS and DHCP; as on EC2 it is the VPC's base address plus two.
	Resolver netip.Addr
	// Endpoint answers the AWS services.
	Endpoint netip.Addr
	// Registry is the container registry.
	Registry netip.Addr
	// ControlPlane is kept for `ovenbird serve`.
	ControlPlane netip.Addr
	// Metadata answers the instance metadata service.
	Metadata netip.Addr
}

// Subnet lies in one availability zone; its first address is the VPC's router.
type Subnet struct {
	ID, Zone, ZoneID string
	CIDR             netip.Prefix
	Bridge           string // the interface that carries it in the lab's namespace
}

// Names under which the lab's own endpoints are found, by DNS and in their certificates.
const (
	EndpointName     = "aws.lab.internal"
	RegistryName     = "registry.lab.internal"
	ControlPlaneName = "eks.lab.internal"
)

// reserved is how many addresses at the start of a subnet are never an instance's: EC2
// keeps four, the lab's own endpoints need some more.
const reserved = 20

// Default is the plan that every lab has.
func Default() Plan {
	return Plan{
		Partition: "aws",
		Account:   "111122223333",
		Region:    "us-west-2",
		Elsewhere: []string{"us-east-1", "eu-central-1"},
		VPCID:     "vpc-0a1b2c3d4e5f60718",
		CIDR:      netip.MustParsePrefix("10.0.0.0/16"),
		Subnets: []Subnet{
			{ID: "subnet-0aaaaaaaaaaaaaaaa", Zone: "us-west-2a", ZoneID: "usw2-az1", CIDR: netip.MustParsePrefix("10.0.0.0/20"), Bridge: "subnet-a"},
			{ID: "subnet-0bbbbbbbbbbbbbbbb", Zone: "us-west-2b", ZoneID: "usw2-az2", CIDR: netip.MustParsePrefix("10.0.16.0/20"), Bridge: "subnet-b"},
			{ID: "subnet-0cccccccccccccccc", Zone: "us-west-2c", ZoneID: "usw2-az3", CIDR: netip.MustParsePrefix("10.0.32.0/20"), Bridge: "subnet-c"},
		},
		Resolver:     netip.MustParseAddr("10.0.0.2"),
		Endpoint:     netip.MustParseAddr("10.0.0.3"),
		Registry:     netip.MustParseAddr("10.0.0.4"),
		ControlPlane: netip.MustParseAddr("10.0.0.10"),
		Metadata:     netip.MustParseAddr("169.254.169.254"),
	}
}

// Regions are all regions of the account, the one with the VPC first.
func (p Plan) Regions() []string { return append([]string{p.Region}, p.Elsewhere...) }

// In is the plan of one of the regions. Only the first has a VPC.
func (p Plan) In(region string) Plan {
	if region != p.Region {
		p.Region, p.VPCID, p.Subnets = region, "", nil
	}
	return p
}

// Subnet finds a subnet by its ID.
func (p Plan) Subnet(id string) (Subnet, bool) {
	for _, s := range p.Subnets {
		if s.ID == id {
			return s, true
		}
	}
	return Subnet{}, false
}

// DNSSuffix is the domain of instance names.
func (p Plan) DNSSuffix() string { return p.Region + ".compute.internal" }

// HostName is an instance's name without its domain: ip-10-0-1-2.
func (p Plan) HostName(addr netip.Addr) string {
	return "ip-" + strings.ReplaceAll(addr.String(), ".", "-")
}

// PrivateDNSName is an instance's full name: ip-10-0-1-2.us-west-2.compute.internal.
func (p Plan) PrivateDNSName(addr netip.Addr) string {
	return p.HostName(addr) + "." + p.DNSSuffix()
}

// IAM makes the ARN of an IAM resource, such as "role/ovenbird-node".
func (p Plan) IAM(resource string) string {
	return fmt.Sprintf("arn:%s:iam::%s:%s", p.Partition, p.Account, resource)
}

// AssumedRole makes the ARN of a role's session, as GetCallerIdentity names it.
func (p Plan) AssumedRole(role, session string) string {
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", p.Partition, p.Account, role, session)
}

// Router is the subnet's first address.
func (s Subnet) Router() netip.Addr { return s.CIDR.Masked().Addr().Next() }

// Size is how many addresses the subnet has for instances.
func (s Subnet) Size() int {
	return 1<<(32-s.CIDR.Bits()) - reserved - 1
}

// Address is the subnet's nth address for instances, counted from 0 to Size()-1.
func (s Subnet) Address(n int) netip.Addr {
	base := s.CIDR.Masked().Addr().As4()
	var addr [4]byte
	//nolint:gosec // Size bounds n
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(base[:])+uint32(reserved+n))
	return netip.AddrFrom4(addr)
}

// Assignable tells whether addr may be given to an instance of the subnet.
func (s Subnet) Assignable(addr netip.Addr) bool {
	return s.CIDR.Contains(addr) && !addr.Less(s.Address(0)) && !s.Address(s.Size()-1).Less(addr)
}

// Guest tells whether addr may be an instance's.
func (p Plan) Guest(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Subnets, func(s Subnet) bool { return s.Assignable(addr) })
}

// Lookup resolves names as an instance does: by the VPC's resolver and by nothing of the
// host's. It works inside the lab's namespace only.
func (p Plan) Lookup() *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, netip.AddrPortFrom(p.Resolver, 53).String())
		},
	}
}
