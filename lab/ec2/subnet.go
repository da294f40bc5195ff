package ec2

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

type describeSubnetsResponse struct {
	XMLName   xml.Name     `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSubnetsResponse"`
	RequestID string       `xml:"requestId"`
	Subnets   []subnetItem `xml:"subnetSet>item"`
	NextToken string       `xml:"nextToken,omitempty"`
}

type subnetItem struct {
	ID          string     `xml:"subnetId"`
	ARN         string     `xml:"subnetArn"`
	State       string     `xml:"state"`
	Owner       string     `xml:"ownerId"`
	VPCID       string     `xml:"vpcId"`
	CIDR        string     `xml:"cidrBlock"`
	IPv6        []ipv6Item `xml:"ipv6CidrBlockAssociationSet>item"`
	Free        int        `xml:"availableIpAddressCount"`
	Zone        string     `xml:"availabilityZone"`
	ZoneID      string     `xml:"availabilityZoneId"`
	ZoneDefault bool       `xml:"defaultForAz"`
	PublicIP    bool       `xml:"mapPublicIpOnLaunch"`
	AutoIPv6    bool       `xml:"assignIpv6AddressOnCreation"`
	Tags        []tag      `xml:"tagSet>item"`
}

// subnetItem is what is told of a subnet in which interfaces stand that were made by themselves.
func (s Service) subnetItem(subnet vpc.Subnet, interfaces int) subnetItem {
	item := subnetItem{
		ID: subnet.ID, State: "available", Owner: s.Plan.Account, VPCID: subnet.VPCID, ARN: s.subnetARN(subnet.ID),
		CIDR: subnet.CIDR.String(), Free: subnet.Size() - interfaces, Zone: subnet.Zone, ZoneID: subnet.ZoneID,
		PublicIP: subnet.PublicIP, AutoIPv6: subnet.AutoIPv6, Tags: tagItems(subnet.Tags),
	}
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() && i.SubnetID == subnet.ID {
			item.Free--
		}
	}
	if subnet.IPv6.IsValid() {
		item.IPv6 = []ipv6Item{{Association: ipv6Association(subnet.ID), Block: subnet.IPv6.String(), State: "associated"}}
	}
	return item
}

// ipv6Association is the ID of the association of a subnet with its IPv6 block.
func ipv6Association(subnet string) string {
	return "subnet-cidr-assoc-" + strings.TrimPrefix(subnet, "subnet-")
}

func (s Service) subnetARN(id string) string {
	return fmt.Sprintf("arn:%s:ec2:%s:%s:subnet/%s", s.Plan.Partition, s.Plan.Region, s.Plan.Account, id)
}

func (s Service) describeSubnets(p *params) (any, error) {
	page, next, err := listing[vpc.Subnet]{
		set: "subnetSet", id: func(v vpc.Subnet) string { return v.ID }, missing: noSubnet,
		known: attributes[vpc.Subnet]{
			"subnet-id":               one(func(v vpc.Subnet) string { return v.ID }),
			"subnet-arn":              one(func(v vpc.Subnet) string { return s.subnetARN(v.ID) }),
			"vpc-id":                  one(func(v vpc.Subnet) string { return v.VPCID }),
			"availability-zone":       one(func(v vpc.Subnet) string { return v.Zone }),
			"availability-zone-id":    one(func(v vpc.Subnet) string { return v.ZoneID }),
			"cidr-block":              one(func(v vpc.Subnet) string { return v.CIDR.String() }),
			"owner-id":                one(func(vpc.Subnet) string { return s.Plan.Account }),
			"state":                   one(func(vpc.Subnet) string { return "available" }),
			"default-for-az":          one(func(vpc.Subnet) string { return "false" }),
			"map-public-ip-on-launch": one(func(v vpc.Subnet) string { return fmt.Sprint(v.PublicIP) }),
		},
		tags: func(v vpc.Subnet) map[string]string { return v.Tags },
	}.page(p, s.Plan.Now().Subnets, p.list("SubnetId"))
	response := describeSubnetsResponse{RequestID: p.id, NextToken: next}
	if err != nil {
		return nil, err
	}
	interfaces := map[string]int{}
	err = s.change(func(c *contents) error {
		for _, n := range c.Interfaces {
			interfaces[n.SubnetID]++
		}
		return nil
	})
	for _, v := range page {
		response.Subnets = append(response.Subnets, s.subnetItem(v, interfaces[v.ID]))
	}
	return response, err
}

// subnetOrder is what CreateSubnet asks for.
type subnetOrder struct {
	vpcID, block, ipv6 string
	zone, zoneID       string // at most one; neither: any zone
	publicIP, autoIPv6 bool
	tags               map[string]string
	token              string
}

func (s Service) createSubnet(p *params) (any, error) {
	order := subnetOrder{
		vpcID: p.required("VpcId"), block: p.required("CidrBlock"), ipv6: p.text("Ipv6CidrBlock"),
		zone: p.text("AvailabilityZone"), zoneID: p.text("AvailabilityZoneId"), tags: p.tags("subnet")["subnet"],
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	subnet, err := s.addSubnet(order)
	if err != nil {
		return nil, err
	}
	return respond(p, "CreateSubnet", struct {
		XMLName xml.Name `xml:"subnet"`
		subnetItem
	}{subnetItem: s.subnetItem(subnet, 0)}), nil
}

// addSubnet makes a subnet, and with it the bridge that its instances are on.
func (s Service) addSubnet(order subnetOrder) (made vpc.Subnet, err error) {
	prefix, err := block(order.block, "cidrBlock")
	if err != nil {
		return made, err
	}
	zone, err := s.zone(order.zone, order.zoneID)
	if err != nil {
		return made, err
	}
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.Subnets {
			if order.token != "" && earlier.Token == order.token {
				made = earlier
				return nil
			}
		}
		v := r.VPC(order.vpcID)
		if v == nil {
			return noVPC(order.vpcID)
		}
		if err := subnetFits(r, *v, prefix); err != nil {
			return err
		}
		ipv6, err := subnetIPv6(r, *v, order.ipv6)
		if err != nil {
			return err
		}
		if order.autoIPv6 && !ipv6.IsValid() {
			return noIPv6("the new subnet")
		}
		made = vpc.Subnet{
			ID: vpc.NewID("subnet"), VPCID: v.ID, Zone: zone.Name, ZoneID: zone.ID, CIDR: prefix, IPv6: ipv6,
			Token: order.token, Tags: order.tags, PublicIP: order.publicIP, AutoIPv6: order.autoIPv6,
		}
		made.Bridge = vpc.BridgeOf(made.ID)
		r.Subnets = append(r.Subnets, made)
		return nil
	})
	return made, err
}

// zone finds a zone of the region by its name or its ID; the first one when neither is given.
func (s Service) zone(name, id string) (vpc.Zone, error) {
	zones := s.Plan.Zones()
	var names, ids []string
	for _, z := range zones {
		if (name == "" || name == z.Name) && (id == "" || id == z.ID) {
			return z, nil
		}
		names, ids = append(names, z.Name), append(ids, z.ID)
	}
	if name == "" {
		return vpc.Zone{}, invalid("InvalidParameterValue", "Value (%s) for parameter availabilityZoneId is invalid. Subnets can currently only be created in the following availability zones: %s.", id, strings.Join(ids, ", "))
	}
	return vpc.Zone{}, invalid("InvalidParameterValue", "Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.", name, strings.Join(names, ", "))
}

// subnetFits tells whether a new subnet of the VPC may have the prefix.
func subnetFits(r *vpc.Record, v vpc.VPC, prefix netip.Prefix) error {
	if prefix.Bits() < 16 || prefix.Bits() > 28 || prefix.Bits() < v.CIDR.Bits() || !v.CIDR.Contains(prefix.Addr()) {
		return invalid("InvalidSubnet.Range", "The CIDR '%s' is invalid.", prefix)
	}
	for _, other := range r.Subnets {
		if other.CIDR.Overlaps(prefix) {
			return invalid("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", prefix)
		}
	}
	return nil
}

// subnetIPv6 reads the IPv6 block of a new subnet, a /64 of its VPC's; empty: none.
func subnetIPv6(r *vpc.Record, v vpc.VPC, text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is6() {
		return prefix, invalid("InvalidParameterValue", "Value (%s) for parameter ipv6CidrBlock is invalid. This is not a valid IPv6 CIDR block.", text)
	}
	inside := slices.ContainsFunc(v.IPv6, func(b vpc.Block) bool { return b.CIDR.Contains(prefix.Addr()) })
	if prefix.Bits() != 64 || prefix != prefix.Masked() || !inside {
		return prefix, invalid("InvalidSubnet.Range", "The CIDR '%s' is invalid.", prefix)
	}
	for _, other := range r.Subnets {
		if other.IPv6 == prefix {
			return prefix, invalid("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", prefix)
		}
	}
	return prefix, nil
}

func (s Service) deleteSubnet(p *params) (any, error) {
	id := p.required("SubnetId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteSubnet"), s.dropSubnet(id)
}

func (s Service) dropSubnet(id string) error {
	return s.change(func(c *contents) error { // no interface comes meanwhile
		return s.dropSubnetFrom(c, id)
	})
}

func (s Service) dropSubnetFrom(c *contents, id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		switch {
		case r.Subnet(id) == nil:
			return noSubnet(id)
		case slices.ContainsFunc(s.Plan.Subnets, func(own vpc.Subnet) bool { return own.ID == id }):
			return invalid("OperationNotPermitted", "The subnet '%s' is the lab's own and cannot be deleted.", id)
		case s.subnetInUse(r, id) || slices.ContainsFunc(c.Interfaces, func(n *elasticInterface) bool { return n.SubnetID == id }):
			return depended("subnet", id)
		}
		r.Subnets = slices.DeleteFunc(r.Subnets, func(v vpc.Subnet) bool { return v.ID == id })
		for i := range r.RouteTables {
			t := &r.RouteTables[i]
			t.Associations = slices.DeleteFunc(t.Associations, func(a vpc.Association) bool { return a.SubnetID == id })
		}
		return nil
	})
}

// subnetInUse tells whether something in the subnet has an interface there.
func (s Service) subnetInUse(r *vpc.Record, id string) bool {
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() && i.SubnetID == id {
			return true
		}
	}
	return slices.ContainsFunc(r.NATGateways, func(g vpc.NATGateway) bool { return g.SubnetID == id && g.Deleted.IsZero() }) ||
		slices.ContainsFunc(r.Endpoints, func(e vpc.Endpoint) bool { return slices.Contains(e.SubnetIDs, id) })
}

func (s Service) modifySubnetAttribute(p *params) (any, error) {
	id := p.required("SubnetId")
	public, ipv6 := p.has("MapPublicIpOnLaunch.Value"), p.has("AssignIpv6AddressOnCreation.Value")
	if public == ipv6 {
		p.fail(invalid("InvalidParameterCombination", "The request must contain exactly one of mapPublicIpOnLaunch and assignIpv6AddressOnCreation"))
	}
	on := p.boolean("MapPublicIpOnLaunch.Value") || p.boolean("AssignIpv6AddressOnCreation.Value")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "ModifySubnetAttribute"), s.amendSubnet(id, func(v *vpc.Subnet) error {
		if public {
			v.PublicIP = on
			return nil
		}
		v.AutoIPv6 = on
		if on && !v.IPv6.IsValid() {
			return noIPv6(id)
		}
		return nil
	})
}

func (s Service) amendSubnet(id string, change func(*vpc.Subnet) error) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		v := r.Subnet(id)
		if v == nil {
			return noSubnet(id)
		}
		return change(v)
	})
}

func noIPv6(subnet string) error {
	return invalid("InvalidParameterValue", "Invalid value 'true' for assignIpv6AddressOnCreation. %s must have an IPv6 CIDR block.", subnet)
}

type zonesResponse struct {
	XMLName   xml.Name   `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeAvailabilityZonesResponse"`
	RequestID string     `xml:"requestId"`
	Zones     []zoneItem `xml:"availabilityZoneInfo>item"`
}

type zoneItem struct {
	Name        string `xml:"zoneName"`
	ID          string `xml:"zoneId"`
	State       string `xml:"zoneState"`
	Region      string `xml:"regionName"`
	Group       string `xml:"groupName"`
	BorderGroup string `xml:"networkBorderGroup"`
	OptIn       string `xml:"optInStatus"`
	Type        string `xml:"zoneType"`
}

func (s Service) describeZones(p *params) (any, error) {
	names, ids, filters := p.list("ZoneName"), p.list("ZoneId"), p.filters()
	p.boolean("AllAvailabilityZones") // the account has opted into all there are
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []zoneItem
	for _, z := range s.Plan.Zones() {
		if (len(names) == 0 || slices.Contains(names, z.Name)) && (len(ids) == 0 || slices.Contains(ids, z.ID)) {
			all = append(all, zoneItem{
				Name: z.Name, ID: z.ID, State: "available", Region: s.Plan.Region, Group: s.Plan.Region + "-zg-1",
				BorderGroup: s.Plan.Region, OptIn: "opt-in-not-required", Type: "availability-zone",
			})
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(z zoneItem) bool { return z.Name == name }) {
			return nil, invalid("InvalidParameterValue", "Invalid availability zone: [%s]", name)
		}
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(z zoneItem) bool { return z.ID == id }) {
			return nil, invalid("InvalidParameterValue", "Invalid availability zone-id: [%s]", id)
		}
	}
	all, err := choose(all, filters, attributes[zoneItem]{
		"zone-name":     one(func(z zoneItem) string { return z.Name }),
		"zone-id":       one(func(z zoneItem) string { return z.ID }),
		"zone-type":     one(func(z zoneItem) string { return z.Type }),
		"state":         one(func(z zoneItem) string { return z.State }),
		"region-name":   one(func(z zoneItem) string { return z.Region }),
		"opt-in-status": one(func(z zoneItem) string { return z.OptIn }),
	}, func(zoneItem) map[string]string { return nil })
	return zonesResponse{RequestID: p.id, Zones: all}, err
}
