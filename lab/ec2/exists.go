package ec2

import (
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Exists tells whether there is what a template's parameter of a type such as
// AWS::EC2::Subnet::Id names. Of key pairs the lab has none.
func (s Service) Exists(kind, value string) bool {
	switch kind {
	case "AWS::EC2::VPC::Id":
		return s.Plan.Now().VPC(value) != nil
	case "AWS::EC2::Subnet::Id":
		return s.Plan.Now().Subnet(value) != nil
	case "AWS::EC2::AvailabilityZone::Name":
		return slices.ContainsFunc(s.Plan.Zones(), func(z vpc.Zone) bool { return z.Name == value })
	case "AWS::EC2::Image::Id":
		_, ok := s.Catalog.Image(s.Plan.Region, value)
		return ok
	case "AWS::EC2::Instance::Id":
		return slices.ContainsFunc(s.Fleet.Instances(), func(i fleet.Instance) bool { return i.ID == value })
	}
	found := false
	_ = s.change(func(c *contents) error { // changes nothing
		switch kind {
		case "AWS::EC2::SecurityGroup::Id":
			found = slices.ContainsFunc(c.Groups, func(g *securityGroup) bool { return g.ID == value })
		case "AWS::EC2::SecurityGroup::GroupName":
			found = slices.ContainsFunc(c.Groups, func(g *securityGroup) bool { return g.Name == value })
		case "AWS::EC2::Volume::Id":
			found = slices.ContainsFunc(c.Volumes, func(v *volume) bool { return v.ID == value })
		}
		return nil
	})
	return found
}
