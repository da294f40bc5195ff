package ec2

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

type describeInstancesResponse struct {
	XMLName      xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstancesResponse"`
	RequestID    string        `xml:"requestId"`
	Reservations []reservation `xml:"reservationSet>item"`
	NextToken    string        `xml:"nextToken,omitempty"`
}

func (s Service) describeInstances(p *params) (any, error) {
	ids, filters := p.list("InstanceId"), p.filters()
	limit, after := p.page(len(ids) > 0, "instancesSet")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := wellFormed(ids); err != nil {
		return nil, err
	}
	all := s.Fleet.Instances()
	if len(ids) > 0 {
		known := map[string]bool{}
		for _, i := range all {
			known[i.ID] = true
		}
		if missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return known[id] }); len(missing) > 0 {
			return nil, notFound(missing)
		}
		all = slices.DeleteFunc(all, func(i fleet.Instance) bool { return !slices.Contains(ids, i.ID) })
	}
	all, err := choose(all, filters, s.instanceAttributes(), func(i fleet.Instance) map[string]string { return i.Tags })
	if err != nil {
		return nil, err
	}
	response := describeInstancesResponse{RequestID: p.id}
	all, response.NextToken = cut(all, limit, after, position)
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(i fleet.Instance) bool { return i.ReservationID != all[0].ReservationID })
		if n < 0 {
			n = len(all)
		}
		r, err := s.reservation(all[:n])
		if err != nil {
			return nil, err
		}
		response.Reservations = append(response.Reservations, r)
		all = all[n:]
	}
	return response, nil
}

// position orders instances as the fleet lists them, so that a page can begin after an
// instance that is gone by then.
func position(i fleet.Instance) string {
	return fmt.Sprintf("%020d/%s/%06d", i.LaunchTime.UnixNano(), i.ReservationID, i.LaunchIndex)
}

func wellFormed(ids []string) error {
	for _, id := range ids {
		if !instanceID.MatchString(id) {
			return invalid("InvalidInstanceID.Malformed", `Invalid id: "%s"`, id)
		}
	}
	return nil
}

func notFound(ids []string) error {
	if len(ids) == 1 {
		return invalid("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", ids[0])
	}
	return invalid("InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(ids, ", "))
}

// located is an attribute that an instance loses when it is terminated.
func located(value func(fleet.Instance) string) func(fleet.Instance) []string {
	return func(i fleet.Instance) []string {
		if !i.HasAddress() {
			return nil
		}
		return []string{value(i)}
	}
}

// groupAttribute is one of the security groups that an instance is in.
func groupAttribute(value func(fleet.Group) string) func(fleet.Instance) []string {
	return func(i fleet.Instance) []string {
		var values []string
		for _, g := range i.Groups {
			if i.HasAddress() {
				values = append(values, value(g))
			}
		}
		return values
	}
}

func (s Service) instanceAttributes() attributes[fleet.Instance] {
	return attributes[fleet.Instance]{
		"instance-id":         one(func(i fleet.Instance) string { return i.ID }),
		"instance-state-name": one(func(i fleet.Instance) string { return string(i.State) }),
		"instance-state-code": one(func(i fleet.Instance) string { return fmt.Sprint(stateCode(i.State)) }),
		"instance-lifecycle": func(i fleet.Instance) []string {
			if i.Spot == "" {
				return nil
			}
			return []string{"spot"}
		},
		"instance-type":              one(func(i fleet.Instance) string { return i.Type }),
		"image-id":                   one(func(i fleet.Instance) string { return i.ImageID }),
		"availability-zone":          one(func(i fleet.Instance) string { return i.Zone }),
		"reservation-id":             one(func(i fleet.Instance) string { return i.ReservationID }),
		"client-token":               one(func(i fleet.Instance) string { return i.ClientToken }),
		"private-dns-name":           located(func(i fleet.Instance) string { return s.Plan.PrivateDNSName(i.Address) }),
		"private-ip-address":         located(func(i fleet.Instance) string { return i.Address.String() }),
		"vpc-id":                     located(func(i fleet.Instance) string { return s.Plan.VPCOf(i.SubnetID).ID }),
		"subnet-id":                  located(func(i fleet.Instance) string { return i.SubnetID }),
		"instance.group-id":          groupAttribute(func(g fleet.Group) string { return g.ID }),
		"network-interface.group-id": groupAttribute(func(g fleet.Group) string { return g.ID }),
		"instance.group-name":        groupAttribute(func(g fleet.Group) string { return g.Name }),
		"iam-instance-profile.arn": func(i fleet.Instance) []string {
			if i.Profile == "" {
				return nil
			}
			return []string{s.profileARN(i.Profile)}
		},
	}
}
