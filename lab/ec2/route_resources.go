package ec2

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

type routeTableProperties struct {
	VPCID string `json:"VpcId"`
	Tags  []resourceTag
}

func routeTableType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::RouteTable", Properties: &routeTableProperties{}, Required: []string{"VpcId"}, CreateOnly: []string{"VpcId"},
		Attributes: []string{"RouteTableId"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p routeTableProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				t, err := s.addRouteTable(p.VPCID, resourceTags(r, p.Tags), r.Token)
				return t.ID, err
			},
			update:    retagged(s, (*vpc.Record).Tags),
			remove:    func(_ context.Context, id string) error { return s.dropRouteTable(id) },
			attribute: func(id, _ string) (any, error) { return id, nil },
		},
	}
}

type routeProperties struct {
	Table      string `json:"RouteTableId"`
	CIDR       string `json:"DestinationCidrBlock"`
	IPv6       string `json:"DestinationIpv6CidrBlock"`
	PrefixList string `json:"DestinationPrefixListId"`
	Gateway    string `json:"GatewayId"`
	NAT        string `json:"NatGatewayId"`
	Egress     string `json:"EgressOnlyInternetGatewayId"`
}

// route is the route that the properties describe.
func (p routeProperties) route() (vpc.Route, error) {
	route := vpc.Route{}
	for _, d := range []string{p.CIDR, p.IPv6, p.PrefixList} {
		if d != "" && route.Destination != "" {
			return route, invalid("InvalidParameterCombination", "A route has one destination, not %s and %s.", route.Destination, d)
		}
		route.Destination += d
	}
	for _, t := range [][2]string{{"GatewayId", p.Gateway}, {"NatGatewayId", p.NAT}, {"EgressOnlyInternetGatewayId", p.Egress}} {
		if t[1] == "" {
			continue
		}
		if route.Target != "" {
			return route, invalid("InvalidParameterCombination", "A route has one target, not %s and %s.", route.Target, t[1])
		}
		route.Kind, route.Target = t[0], t[1]
	}
	if route.Destination == "" || route.Target == "" {
		return route, invalid("MissingParameter", "A route needs a destination and a target.")
	}
	return route, nil
}

func routeType(s Service) resource.Type {
	put := func(r resource.Request, there bool) (id string, err error) {
		var p routeProperties
		if err := resource.Decode(r.Properties, &p); err != nil {
			return "", err
		}
		route, err := p.route()
		if err != nil {
			return "", err
		}
		if err := s.putRoute(p.Table, route, there); err != nil {
			return "", err
		}
		return p.Table + "|" + route.Destination, nil
	}
	return resource.Type{
		Name: "AWS::EC2::Route", Properties: &routeProperties{}, Required: []string{"RouteTableId"},
		CreateOnly: []string{"RouteTableId", "DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId"},
		Attributes: []string{"CidrBlock"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) { return put(r, false) },
			update: func(_ context.Context, _ string, r resource.Request) error {
				_, err := put(r, true)
				return err
			},
			remove: func(_ context.Context, id string) error {
				table, to, _ := strings.Cut(id, "|")
				return s.dropRoute(table, to)
			},
			attribute: func(id, _ string) (any, error) {
				_, to, _ := strings.Cut(id, "|")
				return to, nil
			},
		},
	}
}

type tableAssociationProperties struct {
	Table  string `json:"RouteTableId"`
	Subnet string `json:"SubnetId"`
}

func tableAssociationType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::SubnetRouteTableAssociation", Properties: &tableAssociationProperties{}, Required: []string{"RouteTableId", "SubnetId"},
		CreateOnly: []string{"SubnetId"}, Attributes: []string{"Id"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p tableAssociationProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				return s.associateTable(p.Table, p.Subnet, r.Token)
			},
			update: func(_ context.Context, id string, r resource.Request) error {
				var p tableAssociationProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return err
				}
				_, err := s.moveAssociation(id, id, p.Table) // whose physical ID stays
				return err
			},
			remove:    func(_ context.Context, id string) error { return s.disassociateTable(id) },
			attribute: func(id, _ string) (any, error) { return id, nil },
		},
	}
}

type endpointProperties struct {
	VPCID       string   `json:"VpcId"`
	Service     string   `json:"ServiceName"`
	Kind        string   `json:"VpcEndpointType"`
	PrivateDNS  bool     `json:"PrivateDnsEnabled"`
	Policy      any      `json:"PolicyDocument"`
	SubnetIDs   []string `json:"SubnetIds"`
	GroupIDs    []string `json:"SecurityGroupIds"`
	RouteTables []string `json:"RouteTableIds"`
	Tags        []resourceTag
}

// order is what CreateVpcEndpoint would be asked for.
func (p endpointProperties) order(r resource.Request) (endpointOrder, error) {
	order := endpointOrder{
		vpcID: p.VPCID, service: p.Service, kind: p.Kind, privateDNS: p.PrivateDNS,
		subnetIDs: p.SubnetIDs, groupIDs: p.GroupIDs, routeTable: p.RouteTables, tags: resourceTags(r, p.Tags), token: r.Token,
	}
	switch policy := p.Policy.(type) {
	case nil:
	case string:
		order.policy = policy
	default:
		text, err := json.Marshal(policy)
		if err != nil {
			return order, fmt.Errorf("read the policy of the endpoint: %w", err)
		}
		order.policy = string(text)
	}
	switch order.kind {
	case "":
		order.kind = gatewayEndpoint
	case gatewayEndpoint, interfaceEndpoint:
	default:
		return order, invalid("UnsupportedOperation", "The lab has no VPC endpoints of type %s.", order.kind)
	}
	return order, nil
}

func endpointType(s Service) resource.Type {
	return resource.Type{
		Name: "AWS::EC2::VPCEndpoint", Properties: &endpointProperties{}, Required: []string{"VpcId", "ServiceName"},
		CreateOnly: []string{"VpcId", "ServiceName", "VpcEndpointType"}, Attributes: []string{"Id", "CreationTimestamp", "DnsEntries", "NetworkInterfaceIds"},
		Handler: networkHandler{
			create: func(_ context.Context, r resource.Request) (string, error) {
				var p endpointProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return "", err
				}
				order, err := p.order(r)
				if err != nil {
					return "", err
				}
				e, err := s.addEndpoint(order)
				return e.ID, err
			},
			update: func(_ context.Context, id string, r resource.Request) error {
				var p endpointProperties
				if err := resource.Decode(r.Properties, &p); err != nil {
					return err
				}
				order, err := p.order(r)
				if err != nil {
					return err
				}
				return s.amendEndpoint(id, order)
			},
			remove: func(_ context.Context, id string) error { return s.dropEndpoint(id) },
			attribute: func(id, name string) (any, error) {
				return found(s.Plan.Now().Endpoint(id), func(e *vpc.Endpoint) any {
					switch name {
					case "CreationTimestamp":
						return e.Created.Format(timeFormat)
					case "DnsEntries":
						return dnsEntries(s.Plan, *e)
					case "NetworkInterfaceIds":
						return append([]string{}, endpointInterfaces(*e)...)
					}
					return e.ID
				})
			},
		},
	}
}

// dnsEntries are an endpoint's names as Fn::GetAtt gives them: each after its hosted zone.
func dnsEntries(plan vpc.Plan, e vpc.Endpoint) []string {
	entries := []string{}
	for _, name := range endpointNames(plan, e) {
		entries = append(entries, hostedZone+":"+name)
	}
	return entries
}

// hostedZone stands for the zone of endpoints' names, which the lab does not serve.
const hostedZone = "Z1HUB23UULQXV"
