package ec2

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

type describeVPCsResponse struct {
	XMLName   xml.Name  `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVpcsResponse"`
	RequestID string    `xml:"requestId"`
	VPCs      []vpcItem `xml:"vpcSet>item"`
	NextToken string    `xml:"nextToken,omitempty"`
}

type vpcItem struct {
	ID      string     `xml:"vpcId"`
	Owner   string     `xml:"ownerId"`
	State   string     `xml:"state"`
	CIDR    string     `xml:"cidrBlock"`
	Blocks  []cidr     `xml:"cidrBlockAssociationSet>item"`
	IPv6    []ipv6Item `xml:"ipv6CidrBlockAssociationSet>item"`
	Options string     `xml:"dhcpOptionsId"`
	Tenancy string     `xml:"instanceTenancy"`
	Default bool       `xml:"isDefault"`
	Tags    []tag      `xml:"tagSet>item"`
}

type cidr struct {
	Association string `xml:"associationId"`
	Block       string `xml:"cidrBlock"`
	State       string `xml:"cidrBlockState>state"`
}

type ipv6Item struct {
	Association string `xml:"associationId"`
	Block       string `xml:"ipv6CidrBlock"`
	State       string `xml:"ipv6CidrBlockState>state"`
	Pool        string `xml:"ipv6Pool,omitempty"`
	BorderGroup string `xml:"networkBorderGroup,omitempty"`
}

func (s Service) vpcItem(v vpc.VPC) vpcItem {
	item := vpcItem{
		ID: v.ID, Owner: s.Plan.Account, State: "available", CIDR: v.CIDR.String(),
		Blocks:  []cidr{{Association: v.Association, Block: v.CIDR.String(), State: "associated"}},
		Options: "dopt-0a1b2c3d4e5f60718", Tenancy: "default", Tags: tagItems(v.Tags),
	}
	for _, b := range v.IPv6 {
		item.IPv6 = append(item.IPv6, s.ipv6Item(b))
	}
	return item
}

func (s Service) ipv6Item(b vpc.Block) ipv6Item {
	return ipv6Item{Association: b.Association, Block: b.CIDR.String(), State: "associated", Pool: "Amazon", BorderGroup: s.Plan.Region}
}

func (s Service) describeVPCs(p *params) (any, error) {
	page, next, err := listing[vpc.VPC]{
		set: "vpcSet", id: func(v vpc.VPC) string { return v.ID }, missing: noVPC,
		known: attributes[vpc.VPC]{
			"vpc-id":                            one(func(v vpc.VPC) string { return v.ID }),
			"cidr":                              one(func(v vpc.VPC) string { return v.CIDR.String() }),
			"cidr-block-association.cidr-block": one(func(v vpc.VPC) string { return v.CIDR.String() }),
			"owner-id":                          one(func(vpc.VPC) string { return s.Plan.Account }),
			"state":                             one(func(vpc.VPC) string { return "available" }),
			"is-default":                        one(func(vpc.VPC) string { return "false" }),
		},
		tags: func(v vpc.VPC) map[string]string { return v.Tags },
	}.page(p, s.Plan.Now().VPCs, p.list("VpcId"))
	response := describeVPCsResponse{RequestID: p.id, NextToken: next}
	for _, v := range page {
		response.VPCs = append(response.VPCs, s.vpcItem(v))
	}
	return response, err
}

// vpcOrder is what CreateVpc asks for.
type vpcOrder struct {
	block string
	ipv6  bool // a block of Amazon's
	tags  map[string]string
	token string // an earlier order's with the same gives that one's VPC again; empty: none
}

func (s Service) createVPC(p *params) (any, error) {
	order := vpcOrder{block: p.required("CidrBlock"), ipv6: p.boolean("AmazonProvidedIpv6CidrBlock"), tags: p.tags("vpc")["vpc"]}
	p.oneOf("InstanceTenancy", "default")
	if err := p.done(); err != nil {
		return nil, err
	}
	v, err := s.addVPC(order)
	return respond(p, "CreateVpc", struct {
		XMLName xml.Name `xml:"vpc"`
		vpcItem
	}{vpcItem: s.vpcItem(v)}), err
}

// addVPC makes a VPC with its main route table.
func (s Service) addVPC(order vpcOrder) (made vpc.VPC, err error) {
	prefix, err := block(order.block, "cidrBlock")
	if err != nil {
		return made, err
	}
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, v := range r.VPCs {
			if order.token != "" && v.Token == order.token {
				made = v
				return nil
			}
		}
		if err := vpcFits(r, prefix); err != nil {
			return err
		}
		made = vpc.VPC{
			ID: vpc.NewID("vpc"), CIDR: prefix, Association: vpc.NewID("vpc-cidr-assoc"), Token: order.token, Tags: order.tags, DNSSupport: true,
		}
		if order.ipv6 {
			made.IPv6 = []vpc.Block{nextIPv6(r, order.token)}
		}
		r.VPCs = append(r.VPCs, made)
		r.RouteTables = append(r.RouteTables, vpc.RouteTable{
			ID: vpc.NewID("rtb"), VPCID: made.ID, Associations: []vpc.Association{{ID: vpc.NewID("rtbassoc"), Main: true}},
		})
		return nil
	})
	return made, err
}

// unusable are addresses that no VPC of the lab can have: EC2 refuses them, or the machine
// and the metadata service use them.
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

// vpcFits tells whether a new VPC may have the prefix.
func vpcFits(r *vpc.Record, prefix netip.Prefix) error {
	if prefix.Bits() < 16 || prefix.Bits() > 28 {
		return invalid("InvalidVpc.Range", "The CIDR '%s' is invalid.", prefix)
	}
	for _, u := range unusable {
		if u.Overlaps(prefix) {
			return invalid("InvalidVpc.Range", "The CIDR '%s' is invalid.", prefix)
		}
	}
	for _, v := range r.VPCs {
		if v.CIDR.Overlaps(prefix) {
			return invalid("UnsupportedOperation", "The CIDR '%s' overlaps that of %s, %s. AWS would allow this; the lab routes all its VPCs in one table, and cannot.", prefix, v.ID, v.CIDR)
		}
	}
	return nil
}

// nextIPv6 is a free /56 of the addresses that are for documentation (RFC 3849).
func nextIPv6(r *vpc.Record, token string) vpc.Block {
	used := map[netip.Prefix]bool{}
	for _, v := range r.VPCs {
		for _, b := range v.IPv6 {
			used[b.CIDR] = true
		}
	}
	for n := 0; ; n++ {
		addr := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 16), byte(n >> 8), byte(n)})
		if prefix := netip.PrefixFrom(addr, 56); !used[prefix] {
			return vpc.Block{Association: vpc.NewID("vpc-cidr-assoc"), CIDR: prefix, Token: token}
		}
	}
}

func (s Service) deleteVPC(p *params) (any, error) {
	id := p.required("VpcId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteVpc"), s.dropVPC(id)
}

func (s Service) dropVPC(id string) error {
	if err := s.change(func(c *contents) error {
		if slices.ContainsFunc(c.Groups, func(g *securityGroup) bool { return g.VPC == id && g.Name != defaultGroup }) {
			return depended("vpc", id)
		}
		return nil
	}); err != nil {
		return err
	}
	return s.changeVPCs(func(r *vpc.Record) error {
		switch v := r.VPC(id); {
		case v == nil:
			return noVPC(id)
		case v.Own:
			return invalid("OperationNotPermitted", "The vpc '%s' is the lab's own, which holds its endpoints, and cannot be deleted.", id)
		case vpcInUse(r, id):
			return depended("vpc", id)
		}
		r.VPCs = slices.DeleteFunc(r.VPCs, func(v vpc.VPC) bool { return v.ID == id })
		r.RouteTables = slices.DeleteFunc(r.RouteTables, func(t vpc.RouteTable) bool { return t.VPCID == id })
		r.EgressGateways = slices.DeleteFunc(r.EgressGateways, func(g vpc.EgressGateway) bool { return g.VPCID == id })
		r.NATGateways = slices.DeleteFunc(r.NATGateways, func(g vpc.NATGateway) bool { return g.VPCID == id })
		return nil
	})
}

// vpcInUse tells whether something is left in the VPC that keeps it from being deleted.
func vpcInUse(r *vpc.Record, id string) bool {
	return slices.ContainsFunc(r.Subnets, func(s vpc.Subnet) bool { return s.VPCID == id }) ||
		slices.ContainsFunc(r.InternetGateways, func(g vpc.InternetGateway) bool { return g.VPCID == id }) ||
		slices.ContainsFunc(r.EgressGateways, func(g vpc.EgressGateway) bool { return g.VPCID == id }) ||
		slices.ContainsFunc(r.Endpoints, func(e vpc.Endpoint) bool { return e.VPCID == id }) ||
		slices.ContainsFunc(r.RouteTables, func(t vpc.RouteTable) bool { return t.VPCID == id && !t.Main() })
}

func (s Service) modifyVPCAttribute(p *params) (any, error) {
	id := p.required("VpcId")
	support, hostnames := p.has("EnableDnsSupport.Value"), p.has("EnableDnsHostnames.Value")
	if support == hostnames {
		p.fail(invalid("InvalidParameterCombination", "The request must contain exactly one of enableDnsSupport and enableDnsHostnames"))
	}
	on := p.boolean("EnableDnsSupport.Value") || p.boolean("EnableDnsHostnames.Value")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "ModifyVpcAttribute"), s.amendVPC(id, func(v *vpc.VPC) error {
		if support {
			v.DNSSupport = on
		} else {
			v.DNSHostnames = on
		}
		return nil
	})
}

func (s Service) amendVPC(id string, change func(*vpc.VPC) error) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		v := r.VPC(id)
		if v == nil {
			return noVPC(id)
		}
		return change(v)
	})
}

type vpcAttribute struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVpcAttributeResponse"`
	RequestID string   `xml:"requestId"`
	VPCID     string   `xml:"vpcId"`
	Support   string   `xml:"enableDnsSupport>value,omitempty"`
	Hostnames string   `xml:"enableDnsHostnames>value,omitempty"`
}

func (s Service) describeVPCAttribute(p *params) (any, error) {
	id := p.required("VpcId")
	what := p.oneOf("Attribute", "enableDnsSupport", "enableDnsHostnames")
	if err := p.done(); err != nil {
		return nil, err
	}
	v := s.Plan.Now().VPC(id)
	if v == nil {
		return nil, noVPC(id)
	}
	response := vpcAttribute{RequestID: p.id, VPCID: id}
	if what == "enableDnsSupport" {
		response.Support = fmt.Sprint(v.DNSSupport)
	} else {
		response.Hostnames = fmt.Sprint(v.DNSHostnames)
	}
	return response, nil
}

type vpcBlockAnswer struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ AssociateVpcCidrBlockResponse"`
	RequestID string   `xml:"requestId"`
	VPCID     string   `xml:"vpcId"`
	IPv6      ipv6Item `xml:"ipv6CidrBlockAssociation"`
}

func (s Service) associateVPCBlock(p *params) (any, error) {
	id := p.required("VpcId")
	if !p.boolean("AmazonProvidedIpv6CidrBlock") {
		p.fail(invalid("UnsupportedOperation", "The lab associates VPCs with IPv6 blocks provided by Amazon only."))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	b, err := s.addIPv6(id, "")
	return vpcBlockAnswer{RequestID: p.id, VPCID: id, IPv6: s.ipv6Item(b)}, err
}

func (s Service) addIPv6(id, token string) (b vpc.Block, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		v := r.VPC(id)
		switch {
		case v == nil:
			return noVPC(id)
		case len(v.IPv6) > 0 && token != "" && v.IPv6[0].Token == token:
			b = v.IPv6[0]
			return nil
		case len(v.IPv6) > 0:
			return invalid("CidrLimitExceeded", "The VPC '%s' has an IPv6 block: the lab's limit is one.", id)
		}
		b = nextIPv6(r, token)
		v.IPv6 = []vpc.Block{b}
		return nil
	})
	return b, err
}

func (s Service) disassociateVPCBlock(p *params) (any, error) {
	id := p.required("AssociationId")
	if err := p.done(); err != nil {
		return nil, err
	}
	b, err := s.dropIPv6(id)
	item := s.ipv6Item(b)
	item.State = "disassociated"
	return respond(p, "DisassociateVpcCidrBlock", struct {
		XMLName xml.Name `xml:"ipv6CidrBlockAssociation"`
		ipv6Item
	}{ipv6Item: item}), err
}

func (s Service) dropIPv6(association string) (b vpc.Block, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		for i := range r.VPCs {
			v := &r.VPCs[i]
			if len(v.IPv6) == 0 || v.IPv6[0].Association != association {
				continue
			}
			if slices.ContainsFunc(r.Subnets, func(s vpc.Subnet) bool { return s.VPCID == v.ID && s.IPv6.IsValid() }) {
				return invalid("InvalidCidrBlock.InUse", "The vpc '%s' has a subnet with an IPv6 CIDR block.", v.ID)
			}
			b, v.IPv6 = v.IPv6[0], nil
			return nil
		}
		return invalid("InvalidVpcCidrBlockAssociationID.NotFound", "The vpc CIDR block association ID '%s' does not exist", association)
	})
	return b, err
}
