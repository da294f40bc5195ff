package vpc

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Record is what the VPCs of a region are and hold. The lab carries VPCs and subnets; the
// rest is kept as it was asked for and leads no packet: every subnet reaches every other one
// and the lab's endpoints, and nothing beyond.
type Record struct {
	VPCs             []VPC             `json:"vpcs"`
	Subnets          []Subnet          `json:"subnets"`
	InternetGateways []InternetGateway `json:"internetGateways,omitempty"`
	EgressGateways   []EgressGateway   `json:"egressOnlyInternetGateways,omitempty"`
	NATGateways      []NATGateway      `json:"natGateways,omitempty"`
	RouteTables      []RouteTable      `json:"routeTables,omitempty"`
	Endpoints        []Endpoint        `json:"endpoints,omitempty"`
}

// VPC is a private network. Its resolver is at its base address plus two, as on EC2.
type VPC struct {
	ID           string            `json:"id"`
	CIDR         netip.Prefix      `json:"cidr"`
	Association  string            `json:"association"` // of the CIDR block
	Own          bool              `json:"own,omitempty"`
	Token        string            `json:"token,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	DNSSupport   bool              `json:"dnsSupport"`
	DNSHostnames bool              `json:"dnsHostnames"`
	IPv6         []Block           `json:"ipv6,omitempty"` // recorded, not carried
}

// Resolver answers the VPC's DNS.
func (v VPC) Resolver() netip.Addr { return v.CIDR.Masked().Addr().Next().Next() }

// DefaultGroup is the ID of the security group that comes and goes with the VPC.
func (v VPC) DefaultGroup() string { return "sg-" + suffix(v.ID) }

// DefaultACL is the ID of the network ACL that comes and goes with the VPC.
func (v VPC) DefaultACL() string { return "acl-" + suffix(v.ID) }

// Block is an IPv6 block that is associated with a VPC.
type Block struct {
	Association string       `json:"association"`
	CIDR        netip.Prefix `json:"cidr"`
	Token       string       `json:"token,omitempty"`
}

// InternetGateway leads from a VPC to the internet.
type InternetGateway struct {
	ID    string            `json:"id"`
	VPCID string            `json:"vpcId,omitempty"` // empty: detached
	Token string            `json:"token,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
}

// EgressGateway leads IPv6 from a VPC to the internet, and not back.
type EgressGateway struct {
	ID    string            `json:"id"`
	VPCID string            `json:"vpcId"`
	Token string            `json:"token,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
}

// NATGateway leads from private subnets to the internet.
type NATGateway struct {
	ID          string            `json:"id"`
	VPCID       string            `json:"vpcId"`
	SubnetID    string            `json:"subnetId"`
	Private     bool              `json:"private,omitempty"`
	Allocation  string            `json:"allocation,omitempty"` // of a public one's Elastic IP
	Address     netip.Addr        `json:"address"`
	InterfaceID string            `json:"interfaceId"`
	Token       string            `json:"token,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created"`
	Deleted     time.Time         `json:"deleted,omitzero"`
}

// RouteTable is how subnets' packets leave.
type RouteTable struct {
	ID           string            `json:"id"`
	VPCID        string            `json:"vpcId"`
	Token        string            `json:"token,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Routes       []Route           `json:"routes,omitempty"` // besides those to the VPC itself
	Associations []Association     `json:"associations,omitempty"`
}

// Main tells whether subnets without a table of their own use this one.
func (t RouteTable) Main() bool {
	return slices.ContainsFunc(t.Associations, func(a Association) bool { return a.Main })
}

// Route leads to a destination: a CIDR block, or the prefix list of a gateway endpoint.
type Route struct {
	Destination string `json:"destination"`
	// Kind is the parameter that names the target: GatewayId, NatGatewayId,
	// EgressOnlyInternetGatewayId, NetworkInterfaceId, InstanceId or VpcEndpointId.
	Kind   string `json:"kind"`
	Target string `json:"target"`
}

// Association makes a table a subnet's, or a VPC's main one.
type Association struct {
	ID       string `json:"id"`
	SubnetID string `json:"subnetId,omitempty"`
	Main     bool   `json:"main,omitempty"`
	Token    string `json:"token,omitempty"`
}

// Endpoint is a private way to a service.
type Endpoint struct {
	ID          string            `json:"id"`
	VPCID       string            `json:"vpcId"`
	Kind        string            `json:"kind"` // Interface or Gateway
	Service     string            `json:"service"`
	Policy      string            `json:"policy,omitempty"`
	PrivateDNS  bool              `json:"privateDns,omitempty"`
	SubnetIDs   []string          `json:"subnetIds,omitempty"`
	GroupIDs    []string          `json:"groupIds,omitempty"`
	RouteTables []string          `json:"routeTableIds,omitempty"`
	Token       string            `json:"token,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created"`
}

// find is the element that has what is asked for; nil when none has.
func find[T any](list []T, has func(*T) bool) *T {
	for i := range list {
		if has(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

// VPC finds a VPC by its ID; nil: there is none.
func (r *Record) VPC(id string) *VPC { return find(r.VPCs, func(v *VPC) bool { return v.ID == id }) }

// Subnet finds a subnet by its ID; nil: there is none.
func (r *Record) Subnet(id string) *Subnet {
	return find(r.Subnets, func(s *Subnet) bool { return s.ID == id })
}

// InternetGateway finds an internet gateway by its ID; nil: there is none.
func (r *Record) InternetGateway(id string) *InternetGateway {
	return find(r.InternetGateways, func(g *InternetGateway) bool { return g.ID == id })
}

// EgressGateway finds an egress-only gateway by its ID; nil: there is none.
func (r *Record) EgressGateway(id string) *EgressGateway {
	return find(r.EgressGateways, func(g *EgressGateway) bool { return g.ID == id })
}

// NATGateway finds a NAT gateway by its ID, also one that was deleted; nil: there is none.
func (r *Record) NATGateway(id string) *NATGateway {
	return find(r.NATGateways, func(g *NATGateway) bool { return g.ID == id })
}

// RouteTable finds a route table by its ID; nil: there is none.
func (r *Record) RouteTable(id string) *RouteTable {
	return find(r.RouteTables, func(t *RouteTable) bool { return t.ID == id })
}

// MainTable finds a VPC's main route table; nil: there is no such VPC.
func (r *Record) MainTable(vpcID string) *RouteTable {
	return find(r.RouteTables, func(t *RouteTable) bool { return t.VPCID == vpcID && t.Main() })
}

// Association finds an association of a route table by its ID, and the table; nil: there is
// none.
func (r *Record) Association(id string) (*RouteTable, *Association) {
	for i := range r.RouteTables {
		t := &r.RouteTables[i]
		if a := find(t.Associations, func(a *Association) bool { return a.ID == id }); a != nil {
			return t, a
		}
	}
	return nil, nil
}

// Endpoint finds an endpoint by its ID; nil: there is none.
func (r *Record) Endpoint(id string) *Endpoint {
	return find(r.Endpoints, func(e *Endpoint) bool { return e.ID == id })
}

// Tags are the tags of what has the ID, for them to be changed; nil: nothing has it.
func (r *Record) Tags(id string) *map[string]string {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "vpc":
		return tagsOf(r.VPC(id), func(v *VPC) *map[string]string { return &v.Tags })
	case "subnet":
		return tagsOf(r.Subnet(id), func(v *Subnet) *map[string]string { return &v.Tags })
	case "igw":
		return tagsOf(r.InternetGateway(id), func(v *InternetGateway) *map[string]string { return &v.Tags })
	case "eigw":
		return tagsOf(r.EgressGateway(id), func(v *EgressGateway) *map[string]string { return &v.Tags })
	case "nat":
		return tagsOf(r.NATGateway(id), func(v *NATGateway) *map[string]string { return &v.Tags })
	case "rtb":
		return tagsOf(r.RouteTable(id), func(v *RouteTable) *map[string]string { return &v.Tags })
	case "vpce":
		return tagsOf(r.Endpoint(id), func(v *Endpoint) *map[string]string { return &v.Tags })
	}
	return nil
}

func tagsOf[T any](of *T, tags func(*T) *map[string]string) *map[string]string {
	if of == nil {
		return nil
	}
	return tags(of)
}
