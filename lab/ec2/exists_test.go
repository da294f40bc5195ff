package ec2

import (
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func TestExistsKnowsWhatParametersOfTemplatesName(t *testing.T) {
	l := newLab(t)
	own := vpc.Default()
	group := l.plan.Now().VPC(own.VPCID).DefaultGroup()
	for kind, ids := range map[string]struct{ there, missing string }{
		"AWS::EC2::VPC::Id":                {own.VPCID, "vpc-0123456789abcdef0"},
		"AWS::EC2::Subnet::Id":             {own.Subnets[0].ID, "subnet-0123456789abcdef0"},
		"AWS::EC2::AvailabilityZone::Name": {"us-west-2b", "us-west-2z"},
		"AWS::EC2::SecurityGroup::Id":      {group, "sg-0123456789abcdef0"},
		"AWS::EC2::Image::Id":              {ami, "ami-0fedcba9876543210"},
	} {
		if !l.service.Exists(kind, ids.there) || l.service.Exists(kind, ids.missing) {
			t.Errorf("%s: want %s to exist, and not %s", kind, ids.there, ids.missing)
		}
	}
}
