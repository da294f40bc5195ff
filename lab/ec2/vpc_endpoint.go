package ec2

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Kinds of VPC endpoints.
const (
	interfaceEndpoint = "Interface"
	gatewayEndpoint   = "Gateway"
)

type endpointItem struct {
	ID          string            `xml:"vpcEndpointId"`
	Kind        string            `xml:"vpcEndpointType"`
	VPCID       string            `xml:"vpcId"`
	Service     string            `xml:"serviceName"`
	State       string            `xml:"state"`
	Policy      string            `xml:"policyDocument,omitempty"`
	RouteTables []string          `xml:"routeTableIdSet>item"`
	SubnetIDs   []string          `xml:"subnetIdSet>item"`
	Groups      []endpointGroup   `xml:"groupSet>item"`
	PrivateDNS  bool              `xml:"privateDnsEnabled"`
	Interfaces  []string          `xml:"networkInterfaceIdSet>item"`
	Names       []endpointDNSName `xml:"dnsEntrySet>item"`
	Created     string            `xml:"creationTimestamp"`
	Owner       string            `xml:"ownerId"`
	Tags        []tag             `xml:"tagSet>item"`
}

type endpointGroup struct {
	ID string `xml:"groupId"`
}

type endpointDNSName struct {
	Name string `xml:"dnsName"`
}

func (s Service) endpointItem(e vpc.Endpoint) endpointItem {
	item := endpointItem{
		ID: e.ID, Kind: e.Kind, VPCID: e.VPCID, Service: e.Service, State: "available", Policy: e.Policy, RouteTables: e.RouteTables,
		SubnetIDs: e.SubnetIDs, PrivateDNS: e.PrivateDNS, Created: e.Created.Format(timeFormat), Owner: s.Plan.Account, Tags: tagItems(e.Tags),
	}
	for _, id := range e.GroupIDs {
		item.Groups = append(item.Groups, endpointGroup{ID: id})
	}
	for _, name := range endpointNames(s.Plan, e) {
		item.Names = append(item.Names, endpointDNSName{Name: name})
	}
	item.Interfaces = endpointInterfaces(e)
	return item
}

// endpointInterfaces are the IDs of an interface endpoint's interfaces, one in each subnet.
func endpointInterfaces(e vpc.Endpoint) []string {
	var ids []string
	for i := range e.SubnetIDs {
		ids = append(ids, fmt.Sprintf("eni-%s%02x", e.ID[len("vpce-"):len(e.ID)-2], i))
	}
	return ids
}

// endpointNames are the DNS names of an interface endpoint: of its own, and the service's
// own if DNS is private.
func endpointNames(plan vpc.Plan, e vpc.Endpoint) []string {
	if e.Kind != interfaceEndpoint {
		return nil
	}
	service := strings.TrimPrefix(e.Service, "com.amazonaws."+plan.Region+".")
	names := []string{fmt.Sprintf("%s-%s.%s.%s.vpce.amazonaws.com", e.ID, e.ID[len(e.ID)-8:], service, plan.Region)}
	if e.PrivateDNS {
		names = append(names, service+"."+plan.Region+".amazonaws.com")
	}
	return names
}

func noEndpoint(id string) *wire.Error {
	return invalid("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist", id)
}

// endpointOrder is what CreateVpcEndpoint asks for.
type endpointOrder struct {
	vpcID, kind, service, policy    string
	privateDNS                      bool
	subnetIDs, groupIDs, routeTable []string
	tags                            map[string]string
	token                           string
}

func (s Service) createEndpoint(p *params) (any, error) {
	order := endpointOrder{
		vpcID: p.required("VpcId"), service: p.required("ServiceName"), kind: p.oneOf("VpcEndpointType", gatewayEndpoint, interfaceEndpoint),
		subnetIDs: p.list("SubnetId"), groupIDs: p.list("SecurityGroupId"), routeTable: p.list("RouteTableId"),
		policy: p.text("PolicyDocument"), tags: p.tags("vpc-endpoint")["vpc-endpoint"], token: p.text("ClientToken"),
	}
	order.privateDNS = order.kind == interfaceEndpoint
	if p.has("PrivateDnsEnabled") {
		order.privateDNS = p.boolean("PrivateDnsEnabled")
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	e, err := s.addEndpoint(order)
	if err != nil {
		return nil, err
	}
	return respond(p, "CreateVpcEndpoint", struct {
		XMLName xml.Name `xml:"vpcEndpoint"`
		endpointItem
	}{endpointItem: s.endpointItem(e)}), nil
}

func (s Service) addEndpoint(order endpointOrder) (made vpc.Endpoint, err error) {
	if err := s.endpointMakesSense(order); err != nil {
		return made, err
	}
	err = s.changeVPCs(func(r *vpc.Record) error {
		for _, earlier := range r.Endpoints {
			if order.token != "" && earlier.Token == order.token {
				made = earlier
				return nil
			}
		}
		if err := endpointFits(r, "", order); err != nil {
			return err
		}
		made = vpc.Endpoint{
			ID: vpc.NewID("vpce"), VPCID: order.vpcID, Kind: order.kind, Service: order.service, Policy: order.policy, PrivateDNS: order.privateDNS,
			SubnetIDs: order.subnetIDs, GroupIDs: order.groupIDs, RouteTables: order.routeTable, Token: order.token, Tags: order.tags, Created: s.now(),
		}
		r.Endpoints = append(r.Endpoints, made)
		return nil
	})
	return made, err
}

// endpointMakesSense tells whether an order agrees with itself.
func (s Service) endpointMakesSense(order endpointOrder) error {
	name, ok := strings.CutPrefix(order.service, "com.amazonaws."+s.Plan.Region+".")
	switch {
	case !ok || name == "", order.kind == gatewayEndpoint && name != "s3" && name != "dynamodb":
		return invalid("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", order.service)
	case order.kind == gatewayEndpoint && (len(order.subnetIDs) > 0 || len(order.groupIDs) > 0 || order.privateDNS):
		return invalid("InvalidParameter", "Subnets, security groups and private DNS are for endpoints of type Interface.")
	case order.kind == interfaceEndpoint && len(order.routeTable) > 0:
		return invalid("InvalidParameter", "Route tables are for endpoints of type Gateway.")
	case order.policy != "" && !json.Valid([]byte(order.policy)):
		return invalid("InvalidParameter", "The policy document is not JSON.")
	}
	return nil
}

// amendEndpoint makes an endpoint what an order for it would have made.
func (s Service) amendEndpoint(id string, order endpointOrder) error {
	if err := s.endpointMakesSense(order); err != nil {
		return err
	}
	return s.changeVPCs(func(r *vpc.Record) error {
		e := r.Endpoint(id)
		if e == nil {
			return noEndpoint(id)
		}
		if err := endpointFits(r, id, order); err != nil {
			return err
		}
		e.Policy, e.PrivateDNS, e.Tags = order.policy, order.privateDNS, order.tags
		e.SubnetIDs, e.GroupIDs, e.RouteTables = order.subnetIDs, order.groupIDs, order.routeTable
		return nil
	})
}

// endpointFits tells whether the record has what an endpoint wants, in its VPC. The ID is
// empty for a new one.
func endpointFits(r *vpc.Record, id string, order endpointOrder) error {
	v := r.VPC(order.vpcID)
	if v == nil {
		return noVPC(order.vpcID)
	}
	zones := map[string]bool{}
	for _, id := range order.subnetIDs {
		subnet := r.Subnet(id)
		switch {
		case subnet == nil:
			return noSubnet(id)
		case subnet.VPCID != v.ID:
			return invalid("InvalidParameter", "The subnet %s is not in the vpc %s.", id, v.ID)
		case zones[subnet.Zone]:
			return invalid("DuplicateSubnetsInSameZone", "Found another VPC endpoint subnet in the availability zone of %s. VPC endpoint subnets should be in different availability zones supported by the VPC endpoint service.", id)
		}
		zones[subnet.Zone] = true
	}
	for _, id := range order.routeTable {
		if t := r.RouteTable(id); t == nil || t.VPCID != v.ID {
			return invalid("InvalidRouteTableId.NotFound", "The routeTable ID '%s' does not exist", id)
		}
	}
	if !order.privateDNS {
		return nil
	}
	if !v.DNSSupport || !v.DNSHostnames {
		return invalid("InvalidParameter", "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for %s", v.ID)
	}
	if slices.ContainsFunc(r.Endpoints, func(e vpc.Endpoint) bool {
		return e.ID != id && e.VPCID == v.ID && e.PrivateDNS && e.Service == order.service
	}) {
		return invalid("InvalidParameter", "private-dns-enabled cannot be set because there is already a conflicting DNS domain for %s in the VPC %s", order.service, v.ID)
	}
	return nil
}

type endpointsDeleted struct {
	XMLName      xml.Name          `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeleteVpcEndpointsResponse"`
	RequestID    string            `xml:"requestId"`
	Unsuccessful []endpointFailure `xml:"unsuccessful>item"`
}

type endpointFailure struct {
	ID      string `xml:"resourceId"`
	Code    string `xml:"error>code"`
	Message string `xml:"error>message"`
}

func (s Service) deleteEndpoints(p *params) (any, error) {
	ids := p.list("VpcEndpointId")
	if len(ids) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter VpcEndpointId"))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := endpointsDeleted{RequestID: p.id}
	for _, id := range ids {
		if err := s.dropEndpoint(id); err != nil {
			code, message, _ := explain(err)
			response.Unsuccessful = append(response.Unsuccessful, endpointFailure{ID: id, Code: code, Message: message})
		}
	}
	return response, nil
}

func (s Service) dropEndpoint(id string) error {
	return s.changeVPCs(func(r *vpc.Record) error {
		if r.Endpoint(id) == nil {
			return noEndpoint(id)
		}
		r.Endpoints = slices.DeleteFunc(r.Endpoints, func(e vpc.Endpoint) bool { return e.ID == id })
		return nil
	})
}

type endpointsResponse struct {
	XMLName   xml.Name       `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVpcEndpointsResponse"`
	RequestID string         `xml:"requestId"`
	Endpoints []endpointItem `xml:"vpcEndpointSet>item"`
	NextToken string         `xml:"nextToken,omitempty"`
}

func (s Service) describeEndpoints(p *params) (any, error) {
	page, next, err := listing[vpc.Endpoint]{
		set: "vpcEndpointIdSet", id: func(e vpc.Endpoint) string { return e.ID }, missing: noEndpoint,
		known: attributes[vpc.Endpoint]{
			"vpc-endpoint-id":    one(func(e vpc.Endpoint) string { return e.ID }),
			"vpc-endpoint-type":  one(func(e vpc.Endpoint) string { return e.Kind }),
			"vpc-endpoint-state": one(func(vpc.Endpoint) string { return "available" }),
			"service-name":       one(func(e vpc.Endpoint) string { return e.Service }),
			"vpc-id":             one(func(e vpc.Endpoint) string { return e.VPCID }),
		},
		tags: func(e vpc.Endpoint) map[string]string { return e.Tags },
	}.page(p, s.Plan.Now().Endpoints, p.list("VpcEndpointId"))
	response := endpointsResponse{RequestID: p.id, NextToken: next}
	for _, e := range page {
		response.Endpoints = append(response.Endpoints, s.endpointItem(e))
	}
	return response, err
}
