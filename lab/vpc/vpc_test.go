package vpc

import (
	"net/netip"
	"testing"
)

func TestSubnetsLieInTheVPCAndDoNotOverlap(t *testing.T) {
	plan := Default()
	for i, s := range plan.Subnets {
		if !plan.CIDR.Contains(s.CIDR.Addr()) {
			t.Errorf("%s %s is outside %s", s.ID, s.CIDR, plan.CIDR)
		}
		for _, other := range plan.Subnets[i+1:] {
			if s.CIDR.Overlaps(other.CIDR) {
				t.Errorf("%s overlaps %s", s.ID, other.ID)
			}
		}
		if len(s.Bridge) > 15 {
			t.Errorf("%s: interface name %q is too long", s.ID, s.Bridge)
		}
	}
}

func TestInstancesAreNeverGivenAnAddressThatTheLabUses(t *testing.T) {
	plan := Default()
	for _, s := range plan.Subnets {
		for _, taken := range []netip.Addr{s.CIDR.Addr(), s.Router(), plan.Resolver, plan.Endpoint, plan.Registry, plan.ControlPlane} {
			if s.Assignable(taken) {
				t.Errorf("%s would give %s to an instance", s.ID, taken)
			}
		}
		first, last := s.Address(0), s.Address(s.Size()-1)
		if !s.Assignable(first) || !s.Assignable(last) {
			t.Errorf("%s does not give its own first or last address", s.ID)
		}
		// The address after the last is the subnet's broadcast address.
		if s.Assignable(last.Next()) || s.CIDR.Contains(last.Next().Next()) {
			t.Errorf("%s ends at %s, not before the broadcast address", s.ID, last)
		}
	}
}

func TestNamesFollowEC2(t *testing.T) {
	plan := Default()
	addr := netip.MustParseAddr("10.0.17.5")
	if got, want := plan.PrivateDNSName(addr), "ip-10-0-17-5.us-west-2.compute.internal"; got != want {
		t.Errorf("private DNS name %q, want %q", got, want)
	}
	if got, want := plan.AssumedRole("r", "i-1"), "arn:aws:sts::111122223333:assumed-role/r/i-1"; got != want {
		t.Errorf("assumed role %q, want %q", got, want)
	}
	if got, want := plan.IAM("user/admin"), "arn:aws:iam::111122223333:user/admin"; got != want {
		t.Errorf("user %q, want %q", got, want)
	}
}
