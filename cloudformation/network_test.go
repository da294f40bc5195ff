package cloudformation_test

import (
	"slices"
	"strings"
	"testing"
)

func TestPrivateSubnetsHaveOneWayOut(t *testing.T) {
	tests := []struct {
		outbound, ipv6 string
		nat, endpoints int
		routes         []string // of the private subnets' route tables
	}{
		{"endpoints", "false", 0, 8, nil},
		{"endpoints", "true", 0, 8, nil},
		{"nat", "false", 1, 1, []string{"PrivateRoute1", "PrivateRoute2", "PrivateRoute3"}},
		{"nat-per-zone", "true", 3, 1, []string{"PrivateRoute1", "PrivateRoute2", "PrivateRoute3", "PrivateRouteIpv61", "PrivateRouteIpv62", "PrivateRouteIpv63"}},
	}
	for _, tt := range tests {
		t.Run(tt.outbound+" ipv6 "+tt.ipv6, func(t *testing.T) {
			s, err := newStack(load(t, "network.yaml"), map[string]string{"Outbound": tt.outbound, "Ipv6": tt.ipv6})
			if err != nil {
				t.Fatal(err)
			}
			count := map[string]int{}
			var routes []string
			for _, name := range s.made() {
				r, _ := s.template.Resource(name)
				count[r.Type]++
				if r.Type == "AWS::EC2::Route" && strings.HasPrefix(name, "Private") {
					routes = append(routes, name)
				}
			}
			slices.Sort(routes)
			if count["AWS::EC2::NatGateway"] != tt.nat || count["AWS::EC2::EIP"] != tt.nat || count["AWS::EC2::VPCEndpoint"] != tt.endpoints || !slices.Equal(routes, tt.routes) {
				t.Errorf("got %v and the routes %q", count, routes)
			}
		})
	}
}

func TestEachZoneHasTheNatGatewayThatItsRouteNames(t *testing.T) {
	for outbound, want := range map[string][]string{"nat": {"NatGateway1", "NatGateway1", "NatGateway1"}, "nat-per-zone": {"NatGateway1", "NatGateway2", "NatGateway3"}} {
		s, err := newStack(load(t, "network.yaml"), map[string]string{"Outbound": outbound})
		if err != nil {
			t.Fatal(err)
		}
		for i, route := range []string{"PrivateRoute1", "PrivateRoute2", "PrivateRoute3"} {
			if got := s.properties(route)["NatGatewayId"]; got != want[i] {
				t.Errorf("with %s, %s leads to %v, want %s", outbound, route, got, want[i])
			}
		}
	}
}
