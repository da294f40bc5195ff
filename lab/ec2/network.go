package ec2

import (
	"encoding/xml"
	"net/netip"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// networking are the actions on VPCs and what is in them, but for those that a node may do.
func networking(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateVpc":
		return Service.createVPC
	case "DeleteVpc":
		return Service.deleteVPC
	case "ModifyVpcAttribute":
		return Service.modifyVPCAttribute
	case "DescribeVpcAttribute":
		return Service.describeVPCAttribute
	case "AssociateVpcCidrBlock":
		return Service.associateVPCBlock
	case "DisassociateVpcCidrBlock":
		return Service.disassociateVPCBlock
	case "CreateSubnet":
		return Service.createSubnet
	case "DeleteSubnet":
		return Service.deleteSubnet
	case "ModifySubnetAttribute":
		return Service.modifySubnetAttribute
	case "DescribeAvailabilityZones":
		return Service.describeZones
	}
	if do := gateways(name); do != nil {
		return do
	}
	return routing(name)
}

// changeVPCs changes the VPCs of the region, if it has any.
func (s Service) changeVPCs(do func(*vpc.Record) error) error {
	if s.Plan.Networks == nil {
		return invalid("UnsupportedOperation", "The lab has no VPCs to change in %s.", s.Plan.Region)
	}
	return s.Plan.Networks.Change(do)
}

// listing is how resources of a kind are described.
type listing[T any] struct {
	set     string // what IDs are called in a refusal
	id      func(T) string
	missing func(id string) *wire.Error
	known   attributes[T]
	tags    func(T) map[string]string
}

// page is the page of all that the IDs, the filters and the paging ask for.
func (l listing[T]) page(p *params, all []T, ids []string) (page []T, next string, err error) {
	filters := p.filters()
	limit, after := p.page(len(ids) > 0, l.set)
	if err := p.done(); err != nil {
		return nil, "", err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(t T) bool { return l.id(t) == id }) {
			return nil, "", l.missing(id)
		}
	}
	if len(ids) > 0 {
		all = slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !slices.Contains(ids, l.id(t)) })
	}
	if all, err = choose(all, filters, l.known, l.tags); err != nil {
		return nil, "", err
	}
	page, next = cut(slices.Clone(all), limit, after, l.id)
	return page, next, nil
}

// answer is a response that holds one resource.
type answer struct {
	XMLName   xml.Name
	RequestID string `xml:"requestId"`
	Body      any
}

// respond is the response of an action. The body's XMLName is the name of its element.
func respond(p *params, action string, body any) answer {
	return answer{XMLName: xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: action + "Response"}, RequestID: p.id, Body: body}
}

// block reads an IPv4 CIDR block, whose host bits EC2 drops.
func block(text, parameter string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is4() {
		return prefix, invalid("InvalidParameterValue", "Value (%s) for parameter %s is invalid. This is not a valid CIDR block.", text, parameter)
	}
	return prefix.Masked(), nil
}

func depended(kind, id string) *wire.Error {
	return invalid("DependencyViolation", "The %s '%s' has dependencies and cannot be deleted.", kind, id)
}

func noVPC(id string) *wire.Error {
	return invalid("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
}

func noSubnet(id string) *wire.Error {
	return invalid("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
}

func tagMap(tags []tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}
