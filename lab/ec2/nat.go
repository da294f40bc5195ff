package ec2

import (
	"encoding/xml"
	"net/netip"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// How long a NAT gateway is pending or deleting, which takes minutes on AWS, and how long a
// deleted one stays listed.
const (
	natSettle = 2 * time.Second
	natListed = time.Hour
)

// clock is the time, by the service's clock.
type natItem struct {
	ID        string       `xml:"natGatewayId"`
	SubnetID  string       `xml:"subnetId"`
	VPCID     string       `xml:"vpcId"`
	State     string       `xml:"state"`
	Created   string       `xml:"createTime"`
	Deleted   string       `xml:"deleteTime,omitempty"`
	Kind      string       `xml:"connectivityType"`
	Addresses []natAddress `xml:"natGatewayAddressSet>item"`
	Tags      []tag        `xml:"tagSet>item"`
}

type natAddress struct {
	Allocation  string `xml:"allocationId,omitempty"`
	InterfaceID string `xml:"networkInterfaceId"`
	Address     string `xml:"privateIp"`
	Primary     bool   `xml:"isPrimary"`
	Status      string `xml:"status"`
}

// natState is where a gateway is in its life: pending, available, deleting, deleted.
func natState(g vpc.NATGateway, now time.Time) string {
	switch {
	case !g.Deleted.IsZero() && now.Sub(g.Deleted) >= natSettle:
		return "deleted"
	case !g.Deleted.IsZero():
		return "deleting"
	case now.Sub(g.Created) >= natSettle:
		return "available"
	}
	return "pending"
}

func (s Service) natItem(g vpc.NATGateway) natItem {
	item := natItem{
		ID: g.ID, SubnetID: g.SubnetID, VPCID: g.VPCID, State: natState(g, s.now()), Kind: natKind(g),
		Created: g.Created.Format(timeFormat), Tags: tagItems(g.Tags),
		Addresses: []natAddress{{Allocation: g.Allocation, InterfaceID: g.InterfaceID, Address: g.Address.String(), Primary: true, Status: "succeeded"}},
	}
	if !g.Deleted.IsZero() {
		item.Deleted = g.Deleted.Format(timeFormat)
	}
	return item
}

func natKind(g vpc.NATGateway) string {
	if g.Private {
		return "private"
	}
	return "public"
}

func noNATGateway(id string) *wire.Error {
	return invalid("NatGatewayNotFound", "The Nat Gateway %s was not found", id)
}

// natOrder is what CreateNatGateway asks for.
type natOrder struct {
	subnetID, allocation string
	private              bool
	tags                 map[string]string
	token                string
}

func (s Service) createNATGateway(p *params) (any, error) {
	order := natOrder{
		subnetID: p.required("SubnetId"), allocation: p.text("AllocationId"), private: p.oneOf("ConnectivityType", "public", "private") == "private",
		tags: p.tags("natgateway")["natgateway"], token: p.text("ClientToken"),
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	g, err := s.addNATGateway(order)
	return respond(p, "CreateNatGateway", struct {
		XMLName xml.Name `xml:"natGateway"`
		natItem
	}{natItem: s.natItem(g)}), err
}

func (s Service) addNATGateway(order natOrder) (made vpc.NATGateway, err error) {
	switch {
	case order.private && order.allocation != "":
		return made, invalid("InvalidParameterCombination", "The parameter AllocationId cannot be used with the connectivity type private")
	case !order.private && order.allocation == "":
		return made, invalid("MissingParameter", "The request must contain the parameter AllocationId")
	}
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.NATGateways {
			if order.token != "" && earlier.Token == order.token {
				made = earlier
				return nil
			}
		}
		subnet := r.Subnet(order.subnetID)
		if subnet == nil {
			return noSubnet(order.subnetID)
		}
		attached := slices.ContainsFunc(r.InternetGateways, func(g vpc.InternetGateway) bool { return g.VPCID == subnet.VPCID })
		if !order.private && !attached {
			return invalid("Gateway.NotAttached", "Network %s has no Internet gateway attached", subnet.VPCID)
		}
		for _, g := range r.NATGateways {
			if order.allocation != "" && g.Allocation == order.allocation && g.Deleted.IsZero() {
				return invalid("Resource.AlreadyAssociated", "Elastic IP address [%s] is already associated", order.allocation)
			}
		}
		made = vpc.NATGateway{
			ID: vpc.NewID("nat"), VPCID: subnet.VPCID, SubnetID: subnet.ID, Private: order.private, Allocation: order.allocation,
			Address: natAddressOf(*subnet), InterfaceID: vpc.NewID("eni"), Token: order.token, Tags: order.tags, Created: s.now(),
		}
		r.NATGateways = slices.DeleteFunc(r.NATGateways, func(g vpc.NATGateway) bool { return !g.Deleted.IsZero() && s.now().Sub(g.Deleted) > natListed })
		r.NATGateways = append(r.NATGateways, made)
		return nil
	})
	return made, err
}

// natAddressOf is the private address that a recorded gateway says it has: one that no
// instance gets.
func natAddressOf(subnet vpc.Subnet) netip.Addr { return subnet.Router().Next().Next() }

type natDeleted struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeleteNatGatewayResponse"`
	RequestID string   `xml:"requestId"`
	ID        string   `xml:"natGatewayId"`
}

func (s Service) deleteNATGateway(p *params) (any, error) {
	id := p.required("NatGatewayId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return natDeleted{RequestID: p.id, ID: id}, s.dropNATGateway(id)
}

func (s Service) dropNATGateway(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		g := r.NATGateway(id)
		if g == nil || !g.Deleted.IsZero() && s.now().Sub(g.Deleted) > natListed {
			return noNATGateway(id)
		}
		if g.Deleted.IsZero() {
			g.Deleted = s.now()
		}
		return nil
	})
}

type natGatewaysResponse struct {
	XMLName   xml.Name  `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeNatGatewaysResponse"`
	RequestID string    `xml:"requestId"`
	Gateways  []natItem `xml:"natGatewaySet>item"`
	NextToken string    `xml:"nextToken,omitempty"`
}

func (s Service) describeNATGateways(p *params) (any, error) {
	all := slices.DeleteFunc(slices.Clone(s.Plan.Now().NATGateways), func(g vpc.NATGateway) bool {
		return !g.Deleted.IsZero() && s.now().Sub(g.Deleted) > natListed
	})
	page, next, err := listing[vpc.NATGateway]{
		set: "natGatewayIdSet", id: func(g vpc.NATGateway) string { return g.ID }, missing: noNATGateway,
		known: attributes[vpc.NATGateway]{
			"nat-gateway-id": one(func(g vpc.NATGateway) string { return g.ID }),
			"state":          one(func(g vpc.NATGateway) string { return natState(g, s.now()) }),
			"subnet-id":      one(func(g vpc.NATGateway) string { return g.SubnetID }),
			"vpc-id":         one(func(g vpc.NATGateway) string { return g.VPCID }),
		},
		tags: func(g vpc.NATGateway) map[string]string { return g.Tags },
	}.page(p, all, p.list("NatGatewayId"))
	response := natGatewaysResponse{RequestID: p.id, NextToken: next}
	for _, g := range page {
		response.Gateways = append(response.Gateways, s.natItem(g))
	}
	return response, err
}
