// Package vpc is the lab's networks. Plan is what every lab has from the start: one account,
// one region, one VPC with a subnet in each of three zones, and the addresses of what stands
// in it. Networks are the VPCs that exist by now, which users add to. A plan is data and
// arithmetic, but for what it asks its Networks, and for Lookup, which asks a resolver.
package vpc

import (
	"context"
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

	// VPCID is the lab's own VPC, whose subnets hold the endpoints and the control plane.
	VPCID   string
	CIDR    netip.Prefix
	Subnets []Subnet

	// Networks are all the VPCs of the region; nil: the lab's own alone.
	Networks *Networks

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

// Names under which the lab's own endpoints are found, by DNS and in their certificates.
const (
	EndpointName     = "aws.lab.internal"
	RegistryName     = "registry.lab.internal"
	ControlPlaneName = "eks.lab.internal"
)

// ownVPC is the ID of the VPC that every lab has.
const ownVPC = "vpc-0a1b2c3d4e5f60718"

// Default is the plan that every lab has.
func Default() Plan {
	return Plan{
		Partition: "aws",
		Account:   "111122223333",
		Region:    "us-west-2",
		Elsewhere: []string{"us-east-1", "eu-central-1"},
		VPCID:     ownVPC,
		CIDR:      netip.MustParsePrefix("10.0.0.0/16"),
		Subnets: []Subnet{
			{VPCID: ownVPC, ID: "subnet-0aaaaaaaaaaaaaaaa", Zone: "us-west-2a", ZoneID: "usw2-az1", CIDR: netip.MustParsePrefix("10.0.0.0/20"), Bridge: "subnet-a", Reserved: ownReserved},
			{VPCID: ownVPC, ID: "subnet-0bbbbbbbbbbbbbbbb", Zone: "us-west-2b", ZoneID: "usw2-az2", CIDR: netip.MustParsePrefix("10.0.16.0/20"), Bridge: "subnet-b", Reserved: ownReserved},
			{VPCID: ownVPC, ID: "subnet-0cccccccccccccccc", Zone: "us-west-2c", ZoneID: "usw2-az3", CIDR: netip.MustParsePrefix("10.0.32.0/20"), Bridge: "subnet-c", Reserved: ownReserved},
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
		p.Region, p.VPCID, p.Subnets, p.Networks = region, "", nil, nil
	}
	return p
}

// Now is what the region's VPCs hold at the moment. It is not to be changed.
func (p Plan) Now() *Record {
	switch {
	case p.Networks != nil:
		return p.Networks.Now()
	case p.VPCID == "":
		return &Record{}
	}
	return own(p)
}

// Subnet finds a subnet that exists by its ID.
func (p Plan) Subnet(id string) (Subnet, bool) {
	if s := p.Now().Subnet(id); s != nil {
		return *s, true
	}
	return Subnet{}, false
}

// VPCOf finds the VPC that a subnet is in; an empty one when the subnet does not exist.
func (p Plan) VPCOf(subnet string) VPC {
	now := p.Now()
	if s := now.Subnet(subnet); s != nil {
		if v := now.VPC(s.VPCID); v != nil {
			return *v
		}
	}
	return VPC{}
}

// Zone is an availability zone, by its name in the account and by its ID.
type Zone struct{ Name, ID string }

// Zones are the region's availability zones.
func (p Plan) Zones() []Zone {
	// The IDs are the region's initials and a number: usw2-az1, euc1-az1.
	parts := strings.Split(p.Region, "-")
	short := parts[0]
	for _, part := range parts[1:] {
		short += part[:1]
	}
	var zones []Zone
	for i, letter := range []string{"a", "b", "c"} {
		zones = append(zones, Zone{Name: p.Region + letter, ID: fmt.Sprintf("%s-az%d", short, i+1)})
	}
	return zones
}

// Inside tells whether addr belongs to one of the region's VPCs.
func (p Plan) Inside(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Now().VPCs, func(v VPC) bool { return v.CIDR.Contains(addr) })
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

// Guest tells whether addr may be an instance's.
func (p Plan) Guest(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Now().Subnets, func(s Subnet) bool { return s.Assignable(addr) })
}

// Lookup resolves names as an instance of the lab's own VPC does: by the VPC's resolver and
// by nothing of the host's. It works inside the lab's namespace only.
func (p Plan) Lookup() *net.Resolver { return LookupAt(p.Resolver) }

// LookupAt is Lookup by the resolver of any VPC.
func LookupAt(resolver netip.Addr) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, netip.AddrPortFrom(resolver, 53).String())
		},
	}
}
