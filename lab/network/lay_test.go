package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func TestLayCarriesWhatIsCreatedAndRemovesWhatIsGone(t *testing.T) {
	inNamespace(t, func() error {
		plan := vpc.Default()
		if err := Setup(plan, "the test"); err != nil {
			return err
		}
		own := show(t, "ip", "-br", "addr")
		created := plan.Now()
		created.VPCs = append(created.VPCs, vpc.VPC{ID: "vpc-1", CIDR: netip.MustParsePrefix("10.7.0.0/16")})
		created.Subnets = append(created.Subnets, vpc.Subnet{ID: "subnet-1", VPCID: "vpc-1", CIDR: netip.MustParsePrefix("10.7.1.0/28"), Bridge: "subnet-00000001"})
		var before string
		for run := range 2 {
			if err := Lay(plan, created); err != nil {
				return err
			}
			now := show(t, "ip", "-br", "addr")
			if run == 1 && now != before {
				t.Errorf("second run changed\n%s\nto\n%s", before, now)
			}
			before = now
		}
		for _, want := range []string{"10.7.1.1/28", "10.7.0.2/32", "10.0.0.2/32"} {
			if !strings.Contains(before, want) {
				t.Errorf("no %s in\n%s", want, before)
			}
		}
		if routes := show(t, "ip", "route"); !strings.Contains(routes, "10.7.1.0/28 dev subnet-00000001") {
			t.Errorf("routes:\n%s", routes)
		}
		if err := Lay(plan, plan.Now()); err != nil {
			return err
		}
		if now := show(t, "ip", "-br", "addr"); now != own {
			t.Errorf("after the VPC is gone:\n%s\nwant\n%s", now, own)
		}
		return nil
	})
}
