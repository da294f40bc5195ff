package ec2

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// stack makes resources as CloudFormation does: each under the same token twice, as after a
// crash.
type stack struct {
	t     *testing.T
	types map[string]resource.Type
}

func newStack(t *testing.T, s Service) stack {
	types := map[string]resource.Type{}
	for _, kind := range NetworkResourceTypes(s) {
		types[kind.Name] = kind
	}
	return stack{t, types}
}

func (s stack) create(kind, token string, properties map[string]any) string {
	s.t.Helper()
	r := resource.Request{Token: token, Tags: map[string]string{"aws:cloudformation:stack-name": "net"}, Properties: properties}
	id, err := s.types[kind].Handler.Create(s.t.Context(), r)
	if err != nil {
		s.t.Fatalf("create %s: %v", kind, err)
	}
	if again, err := s.types[kind].Handler.Create(s.t.Context(), r); err != nil || again != id {
		s.t.Fatalf("create %s again: %s after %s, %v", kind, again, id, err)
	}
	return id
}

func (s stack) attribute(kind, id, name string) any {
	s.t.Helper()
	value, err := s.types[kind].Handler.Attribute(s.t.Context(), id, name)
	if err != nil {
		s.t.Fatalf("%s of %s: %v", name, kind, err)
	}
	return value
}

func TestTheNetworkOfATemplateIsMadeChangedAndRemoved(t *testing.T) {
	l := newLab(t)
	// Each look at the clock finds a second gone: nothing has to wait for a NAT gateway.
	now := time.Unix(1700000000, 0)
	service := l.service
	service.Now = func() time.Time { now = now.Add(time.Second); return now }
	s := newStack(t, service)

	network := s.create("AWS::EC2::VPC", "1", map[string]any{
		"CidrBlock": "10.1.0.0/16", "EnableDnsHostnames": "true", "Tags": []any{map[string]any{"Key": "Name", "Value": "net"}},
	})
	s.create("AWS::EC2::VPCCidrBlock", "2", map[string]any{"VpcId": network, "AmazonProvidedIpv6CidrBlock": true})
	if got := s.attribute("AWS::EC2::VPC", network, "Ipv6CidrBlocks"); !reflect.DeepEqual(got, []string{"2001:db8::/56"}) {
		t.Errorf("IPv6 blocks %v", got)
	}
	subnet := s.create("AWS::EC2::Subnet", "3", map[string]any{
		"VpcId": network, "CidrBlock": "10.1.0.0/24", "AvailabilityZone": "us-west-2b", "Ipv6CidrBlock": "2001:db8::/64", "AssignIpv6AddressOnCreation": true,
	})
	if got := s.attribute("AWS::EC2::Subnet", subnet, "AvailabilityZone"); got != "us-west-2b" {
		t.Errorf("zone %v", got)
	}
	gateway := s.create("AWS::EC2::InternetGateway", "4", nil)
	attachment := s.create("AWS::EC2::VPCGatewayAttachment", "5", map[string]any{"VpcId": network, "InternetGatewayId": gateway})
	egress := s.create("AWS::EC2::EgressOnlyInternetGateway", "6", map[string]any{"VpcId": network})
	nat := s.create("AWS::EC2::NatGateway", "7", map[string]any{"SubnetId": subnet, "AllocationId": "eipalloc-0123456789abcdef0"})
	table := s.create("AWS::EC2::RouteTable", "8", map[string]any{"VpcId": network})
	route := s.create("AWS::EC2::Route", "9", map[string]any{"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": nat})
	route6 := s.create("AWS::EC2::Route", "10", map[string]any{"RouteTableId": table, "DestinationIpv6CidrBlock": "::/0", "EgressOnlyInternetGatewayId": egress})
	association := s.create("AWS::EC2::SubnetRouteTableAssociation", "11", map[string]any{"RouteTableId": table, "SubnetId": subnet})
	endpoint := s.create("AWS::EC2::VPCEndpoint", "12", map[string]any{
		"VpcId": network, "ServiceName": "com.amazonaws.us-west-2.sts", "VpcEndpointType": "Interface", "PrivateDnsEnabled": true, "SubnetIds": []any{subnet},
	})
	if v := l.plan.Now().VPC(network); v.Tags["Name"] != "net" || v.Tags["aws:cloudformation:stack-name"] != "net" || !v.DNSHostnames {
		t.Errorf("the VPC is %+v", v)
	}

	other := s.create("AWS::EC2::RouteTable", "13", map[string]any{"VpcId": network})
	for _, change := range []struct {
		kind, id   string
		properties map[string]any
		seen       func(*vpc.Record) bool
	}{
		{"AWS::EC2::SubnetRouteTableAssociation", association, map[string]any{"RouteTableId": other, "SubnetId": subnet}, func(r *vpc.Record) bool {
			of, _ := r.Association(association)
			return of.ID == other
		}},
		{"AWS::EC2::Route", route, map[string]any{"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0", "GatewayId": gateway}, func(r *vpc.Record) bool {
			return r.RouteTable(table).Routes[0].Target == gateway
		}},
		{"AWS::EC2::Subnet", subnet, map[string]any{"VpcId": network, "CidrBlock": "10.1.0.0/24", "MapPublicIpOnLaunch": true}, func(r *vpc.Record) bool {
			return r.Subnet(subnet).PublicIP && !r.Subnet(subnet).IPv6.IsValid()
		}},
		{"AWS::EC2::InternetGateway", gateway, map[string]any{"Tags": []any{map[string]any{"Key": "a", "Value": "b"}}}, func(r *vpc.Record) bool {
			return r.InternetGateway(gateway).Tags["a"] == "b"
		}},
	} {
		if err := s.types[change.kind].Handler.Update(t.Context(), change.id, resource.Request{Properties: change.properties}); err != nil {
			t.Errorf("update %s: %v", change.kind, err)
		} else if !change.seen(l.plan.Now()) {
			t.Errorf("%s did not change", change.kind)
		}
	}

	left := [][2]string{
		{"AWS::EC2::VPCEndpoint", endpoint}, {"AWS::EC2::SubnetRouteTableAssociation", association}, {"AWS::EC2::Route", route6}, {"AWS::EC2::Route", route},
		{"AWS::EC2::RouteTable", other}, {"AWS::EC2::RouteTable", table}, {"AWS::EC2::NatGateway", nat}, {"AWS::EC2::EgressOnlyInternetGateway", egress},
		{"AWS::EC2::VPCGatewayAttachment", attachment}, {"AWS::EC2::InternetGateway", gateway}, {"AWS::EC2::Subnet", subnet}, {"AWS::EC2::VPC", network},
	}
	for range 2 { // what is gone is no error
		for _, of := range left {
			if err := s.types[of[0]].Handler.Delete(t.Context(), of[1], resource.Request{}); err != nil {
				t.Errorf("delete %s: %v", of[0], err)
			}
		}
	}
	if now := l.plan.Now(); len(now.VPCs) != 1 || len(now.Subnets) != 3 || len(now.RouteTables) != 1 || len(now.InternetGateways)+len(now.EgressGateways)+len(now.Endpoints) != 0 {
		t.Errorf("left behind: %+v", now)
	}
	if _, err := s.types["AWS::EC2::VPC"].Handler.Attribute(t.Context(), network, "VpcId"); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("an attribute of what is gone: %v", err)
	}
}
