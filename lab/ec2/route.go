package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// routing are the actions on route tables and VPC endpoints. The lab records them, and
// routes between all subnets whatever they say.
func routing(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateRouteTable":
		return Service.createRouteTable
	case "DeleteRouteTable":
		return Service.deleteRouteTable
	case "DescribeRouteTables":
		return Service.describeRouteTables
	case "CreateRoute":
		return Service.createRoute
	case "ReplaceRoute":
		return Service.replaceRoute
	case "DeleteRoute":
		return Service.deleteRoute
	case "AssociateRouteTable":
		return Service.associateRouteTable
	case "DisassociateRouteTable":
		return Service.disassociateRouteTable
	case "ReplaceRouteTableAssociation":
		return Service.replaceAssociation
	case "CreateVpcEndpoint":
		return Service.createEndpoint
	case "DeleteVpcEndpoints":
		return Service.deleteEndpoints
	case "DescribeVpcEndpoints":
		return Service.describeEndpoints
	}
	return nil
}

type routeTableItem struct {
	ID           string            `xml:"routeTableId"`
	VPCID        string            `xml:"vpcId"`
	Owner        string            `xml:"ownerId"`
	Routes       []routeItem       `xml:"routeSet>item"`
	Associations []associationItem `xml:"associationSet>item"`
	Tags         []tag             `xml:"tagSet>item"`
}

type routeItem struct {
	CIDR       string `xml:"destinationCidrBlock,omitempty"`
	IPv6       string `xml:"destinationIpv6CidrBlock,omitempty"`
	PrefixList string `xml:"destinationPrefixListId,omitempty"`
	Gateway    string `xml:"gatewayId,omitempty"`
	NAT        string `xml:"natGatewayId,omitempty"`
	Egress     string `xml:"egressOnlyInternetGatewayId,omitempty"`
	Interface  string `xml:"networkInterfaceId,omitempty"`
	Instance   string `xml:"instanceId,omitempty"`
	State      string `xml:"state"`
	Origin     string `xml:"origin"`
}

type associationItem struct {
	ID       string `xml:"routeTableAssociationId"`
	TableID  string `xml:"routeTableId"`
	SubnetID string `xml:"subnetId,omitempty"`
	Main     bool   `xml:"main"`
	State    string `xml:"associationState>state"`
}

func (s Service) routeTableItem(r *vpc.Record, t vpc.RouteTable) routeTableItem {
	item := routeTableItem{ID: t.ID, VPCID: t.VPCID, Owner: s.Plan.Account, Tags: tagItems(t.Tags)}
	if v := r.VPC(t.VPCID); v != nil {
		item.Routes = append(item.Routes, routeItem{CIDR: v.CIDR.String(), Gateway: "local", State: "active", Origin: "CreateRouteTable"})
		for _, b := range v.IPv6 {
			item.Routes = append(item.Routes, routeItem{IPv6: b.CIDR.String(), Gateway: "local", State: "active", Origin: "CreateRouteTable"})
		}
	}
	for _, route := range t.Routes {
		item.Routes = append(item.Routes, onWire(r, route))
	}
	for _, e := range r.Endpoints {
		if slices.Contains(e.RouteTables, t.ID) {
			item.Routes = append(item.Routes, routeItem{PrefixList: prefixList(e.Service), Gateway: e.ID, State: "active", Origin: "CreateRoute"})
		}
	}
	for _, a := range t.Associations {
		item.Associations = append(item.Associations, associationItem{ID: a.ID, TableID: t.ID, SubnetID: a.SubnetID, Main: a.Main, State: "associated"})
	}
	return item
}

// prefixList is the ID of the prefix list of a gateway endpoint's service.
func prefixList(service string) string {
	sum := sha256.Sum256([]byte(service))
	return "pl-" + hex.EncodeToString(sum[:4])
}

// onWire is a route as EC2 tells it. One whose target is gone leads nowhere: a blackhole.
func onWire(r *vpc.Record, route vpc.Route) routeItem {
	item := routeItem{State: "active", Origin: "CreateRoute"}
	switch {
	case strings.HasPrefix(route.Destination, "pl-"):
		item.PrefixList = route.Destination
	case strings.Contains(route.Destination, ":"):
		item.IPv6 = route.Destination
	default:
		item.CIDR = route.Destination
	}
	switch route.Kind {
	case "NatGatewayId":
		item.NAT = route.Target
		if g := r.NATGateway(route.Target); g == nil || !g.Deleted.IsZero() {
			item.State = "blackhole"
		}
	case "EgressOnlyInternetGatewayId":
		item.Egress = route.Target
		if r.EgressGateway(route.Target) == nil {
			item.State = "blackhole"
		}
	case "NetworkInterfaceId":
		item.Interface = route.Target
	case "InstanceId":
		item.Instance = route.Target
	default:
		item.Gateway = route.Target
		if g := r.InternetGateway(route.Target); route.Kind == "GatewayId" && (g == nil || g.VPCID == "") {
			item.State = "blackhole"
		}
	}
	return item
}

func noRouteTable(id string) *wire.Error {
	return invalid("InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
}

func (s Service) createRouteTable(p *params) (any, error) {
	vpcID, tags, token := p.required("VpcId"), p.tags("route-table")["route-table"], p.text("ClientToken")
	if err := p.done(); err != nil {
		return nil, err
	}
	t, err := s.addRouteTable(vpcID, tags, token)
	return respond(p, "CreateRouteTable", struct {
		XMLName xml.Name `xml:"routeTable"`
		routeTableItem
	}{routeTableItem: s.routeTableItem(s.Plan.Now(), t)}), err
}

func (s Service) addRouteTable(vpcID string, tags map[string]string, token string) (made vpc.RouteTable, err error) {
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.RouteTables {
			if token != "" && earlier.Token == token {
				made = earlier
				return nil
			}
		}
		if r.VPC(vpcID) == nil {
			return noVPC(vpcID)
		}
		made = vpc.RouteTable{ID: vpc.NewID("rtb"), VPCID: vpcID, Tags: tags, Token: token}
		r.RouteTables = append(r.RouteTables, made)
		return nil
	})
	return made, err
}

func (s Service) deleteRouteTable(p *params) (any, error) {
	id := p.required("RouteTableId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteRouteTable"), s.dropRouteTable(id)
}

func (s Service) dropRouteTable(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		t := r.RouteTable(id)
		switch {
		case t == nil:
			return noRouteTable(id)
		case len(t.Associations) > 0:
			return depended("routeTable", id)
		}
		r.RouteTables = slices.DeleteFunc(r.RouteTables, func(t vpc.RouteTable) bool { return t.ID == id })
		for i := range r.Endpoints {
			e := &r.Endpoints[i]
			e.RouteTables = slices.DeleteFunc(e.RouteTables, func(t string) bool { return t == id })
		}
		return nil
	})
}

type routeTablesResponse struct {
	XMLName   xml.Name         `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeRouteTablesResponse"`
	RequestID string           `xml:"requestId"`
	Tables    []routeTableItem `xml:"routeTableSet>item"`
	NextToken string           `xml:"nextToken,omitempty"`
}

func (s Service) describeRouteTables(p *params) (any, error) {
	now := s.Plan.Now()
	associated := func(value func(vpc.Association) string) func(vpc.RouteTable) []string {
		return func(t vpc.RouteTable) []string {
			var values []string
			for _, a := range t.Associations {
				values = append(values, value(a))
			}
			return values
		}
	}
	page, next, err := listing[vpc.RouteTable]{
		set: "routeTableIdSet", id: func(t vpc.RouteTable) string { return t.ID }, missing: noRouteTable,
		known: attributes[vpc.RouteTable]{
			"route-table-id":                         one(func(t vpc.RouteTable) string { return t.ID }),
			"vpc-id":                                 one(func(t vpc.RouteTable) string { return t.VPCID }),
			"owner-id":                               one(func(vpc.RouteTable) string { return s.Plan.Account }),
			"association.route-table-association-id": associated(func(a vpc.Association) string { return a.ID }),
			"association.subnet-id":                  associated(func(a vpc.Association) string { return a.SubnetID }),
			"association.main":                       associated(func(a vpc.Association) string { return fmt.Sprint(a.Main) }),
		},
		tags: func(t vpc.RouteTable) map[string]string { return t.Tags },
	}.page(p, now.RouteTables, p.list("RouteTableId"))
	response := routeTablesResponse{RequestID: p.id, NextToken: next}
	for _, t := range page {
		response.Tables = append(response.Tables, s.routeTableItem(now, t))
	}
	return response, err
}

// targets are the parameters that name a route's target.
var targets = [...]string{"GatewayId", "NatGatewayId", "EgressOnlyInternetGatewayId", "NetworkInterfaceId", "InstanceId", "VpcEndpointId"}

// route reads the destination of a route, and its target if it is to have one.
func (p *params) route(withTarget bool) (table string, route vpc.Route) {
	table = p.required("RouteTableId")
	for _, name := range []string{"DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId"} {
		if text := p.text(name); text != "" {
			if route.Destination != "" {
				p.fail(invalid("InvalidParameterCombination", "The request must contain exactly one destination"))
			}
			route.Destination = text
		}
	}
	if withTarget {
		for _, name := range targets {
			if text := p.text(name); text != "" {
				if route.Target != "" {
					p.fail(invalid("InvalidParameterCombination", "The request must contain exactly one of gatewayId, natGatewayId, egressOnlyInternetGatewayId, networkInterfaceId, instanceId, vpcEndpointId"))
				}
				route.Kind, route.Target = name, text
			}
		}
		if route.Target == "" {
			p.fail(invalid("MissingParameter", "The request must contain exactly one of gatewayId, natGatewayId, egressOnlyInternetGatewayId, networkInterfaceId, instanceId, vpcEndpointId"))
		}
	}
	if route.Destination == "" {
		p.fail(invalid("MissingParameter", "The request must contain the parameter destinationCidrBlock or destinationIpv6CidrBlock"))
	}
	return table, route
}

// destination makes a route's destination what EC2 makes of it.
func destination(text string) (string, error) {
	if strings.HasPrefix(text, "pl-") {
		return text, nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return "", invalid("InvalidParameterValue", "Value (%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", text)
	}
	return prefix.Masked().String(), nil
}

// targetFits tells whether a route of the VPC may have the target.
func targetFits(r *vpc.Record, vpcID string, route vpc.Route) error {
	switch route.Kind {
	case "GatewayId":
		g := r.InternetGateway(route.Target)
		switch {
		case g == nil:
			return invalid("InvalidGatewayID.NotFound", "The gateway ID '%s' does not exist", route.Target)
		case g.VPCID != vpcID:
			return invalid("InvalidParameterValue", "route table and network gateway %s belong to different networks", route.Target)
		}
	case "NatGatewayId":
		g := r.NATGateway(route.Target)
		switch {
		case g == nil || !g.Deleted.IsZero():
			return invalid("InvalidNatGatewayID.NotFound", "The natGateway ID '%s' does not exist", route.Target)
		case g.VPCID != vpcID:
			return invalid("InvalidParameterValue", "route table and natGateway %s belong to different networks", route.Target)
		}
	case "EgressOnlyInternetGatewayId":
		g := r.EgressGateway(route.Target)
		switch {
		case g == nil:
			return noEgressGateway(route.Target)
		case g.VPCID != vpcID || !strings.Contains(route.Destination, ":"):
			return invalid("InvalidParameterValue", "egress-only internet gateway %s leads IPv6 of its own network only", route.Target)
		}
	default:
		return invalid("UnsupportedOperation", "The lab has no routes by %s.", route.Kind)
	}
	return nil
}

func (s Service) createRoute(p *params) (any, error) {
	table, route := p.route(true)
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "CreateRoute"), s.putRoute(table, route, false)
}

type replaced struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ ReplaceRouteResponse"`
	RequestID string   `xml:"requestId"`
	Return    bool     `xml:"return"`
}

func (s Service) replaceRoute(p *params) (any, error) {
	table, route := p.route(true)
	if err := p.done(); err != nil {
		return nil, err
	}
	return replaced{RequestID: p.id, Return: true}, s.putRoute(table, route, true)
}

// putRoute makes a route, or with there one that exists lead elsewhere.
func (s Service) putRoute(table string, route vpc.Route, there bool) (err error) {
	if route.Destination, err = destination(route.Destination); err != nil {
		return err
	}
	return s.changeVPCs(func(r *vpc.Record) error {
		t := r.RouteTable(table)
		if t == nil {
			return noRouteTable(table)
		}
		if err := targetFits(r, t.VPCID, route); err != nil {
			return err
		}
		i := slices.IndexFunc(t.Routes, func(o vpc.Route) bool { return o.Destination == route.Destination })
		switch {
		case i >= 0 && !there && t.Routes[i] != route:
			return invalid("RouteAlreadyExists", "The route identified by %s already exists.", route.Destination)
		case i < 0 && there:
			return noRoute(table, route.Destination)
		case i >= 0:
			t.Routes[i] = route
		default:
			t.Routes = append(t.Routes, route)
		}
		return nil
	})
}

func noRoute(table, destination string) *wire.Error {
	return invalid("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", destination, table)
}

func (s Service) deleteRoute(p *params) (any, error) {
	table, route := p.route(false)
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteRoute"), s.dropRoute(table, route.Destination)
}

func (s Service) dropRoute(table, to string) (err error) {
	if to, err = destination(to); err != nil {
		return err
	}
	return s.changeVPCs(func(r *vpc.Record) error {
		t := r.RouteTable(table)
		if t == nil {
			return noRouteTable(table)
		}
		before := len(t.Routes)
		t.Routes = slices.DeleteFunc(t.Routes, func(o vpc.Route) bool { return o.Destination == to })
		if len(t.Routes) == before {
			return noRoute(table, to)
		}
		return nil
	})
}
