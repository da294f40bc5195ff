package vpc

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
)

func open(t *testing.T, path string) *Networks {
	t.Helper()
	n, err := Open(Default(), path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// add makes a VPC with one subnet.
func add(r *Record) error {
	r.VPCs = append(r.VPCs, VPC{ID: "vpc-1", CIDR: netip.MustParsePrefix("10.7.0.0/16")})
	r.Subnets = append(r.Subnets, Subnet{ID: "subnet-1", VPCID: "vpc-1", Zone: "us-west-2b", CIDR: netip.MustParsePrefix("10.7.1.0/28")})
	return nil
}

func TestAPlanSeesWhatIsCreated(t *testing.T) {
	plan := Default()
	if _, ok := plan.Subnet("subnet-1"); ok || len(plan.Now().Subnets) != 3 {
		t.Error("a plan without networks has more than its own subnets")
	}
	plan.Networks = open(t, "")
	copied := plan // as services hold it
	if err := plan.Networks.Change(add); err != nil {
		t.Fatal(err)
	}
	subnet, ok := copied.Subnet("subnet-1")
	if !ok || copied.VPCOf("subnet-1").ID != "vpc-1" || !copied.Guest(subnet.Address(0)) || !copied.Inside(netip.MustParseAddr("10.7.0.2")) {
		t.Errorf("subnet %+v, VPC %+v", subnet, copied.VPCOf("subnet-1"))
	}
	if copied.Inside(netip.MustParseAddr("10.8.0.2")) || copied.VPCOf("subnet-2").ID != "" {
		t.Error("the plan knows what is not there")
	}
	if abroad := copied.In("eu-central-1"); len(abroad.Now().VPCs)+len(abroad.Now().Subnets) != 0 {
		t.Errorf("another region has %+v", abroad.Now())
	}
}

func TestNetworksAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	if err := open(t, path).Change(add); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if again.Now().Subnet("subnet-1") == nil || len(again.Now().VPCs) != 2 || !again.Now().VPC(Default().VPCID).Own {
		t.Errorf("read again: %+v", again.Now())
	}
	if got, want := again.Now().Subnets[0], Default().Subnets[0]; got.Reserved != want.Reserved || got.Bridge != want.Bridge {
		t.Errorf("the lab's own subnet is %+v, want %+v", got, want)
	}
}

func TestAChangeThatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "networks.json")
	n := open(t, path)
	var carried []int // how many subnets
	broken := errors.New("no more bridges")
	if err := n.Follow(func(r *Record) error {
		carried = append(carried, len(r.Subnets))
		if len(r.Subnets) > 3 {
			return broken
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := n.Change(add); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	refusal := errors.New("refused")
	if err := n.Change(func(r *Record) error { _ = add(r); return refusal }); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if n.Now().Subnet("subnet-1") != nil || open(t, path).Now().Subnet("subnet-1") != nil {
		t.Error("the subnet is there")
	}
	if want := []int{3, 4, 3}; !slices.Equal(carried, want) {
		t.Errorf("carried %v subnets, want %v", carried, want)
	}
}

func TestASmallSubnetHasTheAddressesThatEC2Leaves(t *testing.T) {
	s := Subnet{CIDR: netip.MustParsePrefix("10.7.1.0/28")}
	if s.Size() != 11 || s.Address(0) != netip.MustParseAddr("10.7.1.4") || s.Address(10) != netip.MustParseAddr("10.7.1.14") {
		t.Errorf("%d addresses from %s to %s", s.Size(), s.Address(0), s.Address(s.Size()-1))
	}
	if v := (VPC{CIDR: s.CIDR}); s.Assignable(v.Resolver()) || s.Assignable(s.Router()) {
		t.Error("an instance would get the resolver's or the router's address")
	}
}

func TestZonesAreOfTheirRegion(t *testing.T) {
	plan := Default()
	for i, z := range plan.Zones() {
		if own := plan.Subnets[i]; z.Name != own.Zone || z.ID != own.ZoneID {
			t.Errorf("zone %+v, and the subnet is in %s, %s", z, own.Zone, own.ZoneID)
		}
	}
	if z := plan.In("eu-central-1").Zones()[1]; z.Name != "eu-central-1b" || z.ID != "euc1-az2" {
		t.Errorf("got %+v", z)
	}
}
