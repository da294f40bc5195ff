package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// interfacing are the actions on network interfaces.
func interfacing(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateNetworkInterface":
		return Service.createNetworkInterface
	case "DescribeNetworkInterfaces":
		return Service.describeNetworkInterfaces
	case "AttachNetworkInterface":
		return Service.attachNetworkInterface
	case "DetachNetworkInterface":
		return Service.detachNetworkInterface
	case "DeleteNetworkInterface":
		return Service.deleteNetworkInterface
	case "ModifyNetworkInterfaceAttribute":
		return Service.modifyInterface
	}
	return nil
}

type describeInterfacesResponse struct {
	XMLName    xml.Name        `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeNetworkInterfacesResponse"`
	RequestID  string          `xml:"requestId"`
	Interfaces []interfaceItem `xml:"networkInterfaceSet>item"`
	NextToken  string          `xml:"nextToken,omitempty"`
}

func (s Service) describeNetworkInterfaces(p *params) (any, error) {
	ids := p.list("NetworkInterfaceId")
	for _, id := range ids {
		if !interfaceID.MatchString(id) {
			p.fail(malformedInterface(id))
		}
	}
	var all []interfaceItem
	err := s.change(func(c *contents) error {
		for _, n := range c.Interfaces {
			all = append(all, s.attachedItem(n))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() {
			all = append(all, s.firstItem(i))
		}
	}
	page, next, err := listing[interfaceItem]{
		set: "networkInterfaceIdSet", id: func(n interfaceItem) string { return n.ID }, missing: noInterface,
		known: interfaceAttributes(), tags: func(n interfaceItem) map[string]string { return tagMap(n.Tags) },
	}.page(p, all, ids)
	return describeInterfacesResponse{RequestID: p.id, Interfaces: page, NextToken: next}, err
}

func noInterface(id string) *wire.Error {
	return invalid("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
}

func interfaceAttributes() attributes[interfaceItem] {
	all := attributes[interfaceItem]{
		"network-interface-id":         one(func(n interfaceItem) string { return n.ID }),
		"subnet-id":                    one(func(n interfaceItem) string { return n.SubnetID }),
		"vpc-id":                       one(func(n interfaceItem) string { return n.VPCID }),
		"availability-zone":            one(func(n interfaceItem) string { return n.Zone }),
		"description":                  one(func(n interfaceItem) string { return n.Description }),
		"interface-type":               one(func(n interfaceItem) string { return n.Type }),
		"mac-address":                  one(func(n interfaceItem) string { return n.MAC }),
		"owner-id":                     one(func(n interfaceItem) string { return n.Owner }),
		"private-dns-name":             one(func(n interfaceItem) string { return n.DNSName }),
		"private-ip-address":           one(func(n interfaceItem) string { return n.Address }),
		"addresses.private-ip-address": one(func(n interfaceItem) string { return n.Address }),
		"addresses.primary":            one(func(interfaceItem) string { return "true" }),
		"requester-managed":            one(func(n interfaceItem) string { return fmt.Sprint(n.RequesterManaged) }),
		"source-dest-check":            one(func(n interfaceItem) string { return fmt.Sprint(n.SourceDestCheck) }),
		"status":                       one(func(n interfaceItem) string { return n.Status }),
	}
	for name, value := range map[string]func(groupIdentifier) string{
		"group-id": func(g groupIdentifier) string { return g.ID }, "group-name": func(g groupIdentifier) string { return g.Name },
	} {
		all[name] = func(n interfaceItem) []string {
			var values []string
			for _, g := range n.Groups {
				values = append(values, value(g))
			}
			return values
		}
	}
	for name, value := range map[string]func(interfaceAttachment) string{
		"attachment-id":         func(a interfaceAttachment) string { return a.ID },
		"attach-time":           func(a interfaceAttachment) string { return a.AttachTime },
		"delete-on-termination": func(a interfaceAttachment) string { return fmt.Sprint(a.DeleteOnTermination) },
		"device-index":          func(a interfaceAttachment) string { return fmt.Sprint(a.DeviceIndex) },
		"instance-id":           func(a interfaceAttachment) string { return a.Instance },
		"instance-owner-id":     func(a interfaceAttachment) string { return a.Owner },
		"status":                func(a interfaceAttachment) string { return a.Status },
	} {
		all["attachment."+name] = func(n interfaceItem) []string {
			if n.Attachment == nil {
				return nil
			}
			return []string{value(*n.Attachment)}
		}
	}
	return all
}

type attachInterfaceResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ AttachNetworkInterfaceResponse"`
	RequestID string   `xml:"requestId"`
	ID        string   `xml:"attachmentId"`
	Card      int      `xml:"networkCardIndex"`
}

func (s Service) attachNetworkInterface(p *params) (any, error) {
	id, instance := p.required("NetworkInterfaceId"), p.required("InstanceId")
	p.required("DeviceIndex")
	index := p.integer("DeviceIndex", 0)
	p.oneOf("NetworkCardIndex", "0")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := wellFormed([]string{instance}); err != nil {
		return nil, err
	}
	response := attachInterfaceResponse{RequestID: p.id}
	err := s.change(func(c *contents) error {
		if _, first := s.firstOf(id); first {
			return attachedAlready(id)
		}
		n, err := c.elasticInterface(id)
		if err != nil {
			return err
		}
		if _, _, attached := s.attachedTo(id); attached {
			return attachedAlready(id)
		}
		i, err := s.instanceFor(instance)
		if err != nil {
			return err
		}
		if subnet, _ := s.Plan.Subnet(n.SubnetID); subnet.Zone != i.Zone {
			return invalid("InvalidParameterCombination", "You may not attach a network interface to an instance if they are not in the same availability zone")
		}
		to, err := s.Fleet.AttachInterface(instance, fleet.Interface{
			ID: id, Index: index, MAC: n.MAC, Address: n.Address, SubnetID: n.SubnetID, Groups: n.Groups,
		})
		response.ID = to.AttachmentID
		return refusedAttachment(err, instance, index)
	})
	return response, err
}

func attachedAlready(id string) error {
	return invalid("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", id)
}

// refusedAttachment says in EC2's words why the fleet did not attach an interface.
func refusedAttachment(err error, instance string, index int) error {
	var state *fleet.StateError
	var limit *fleet.LimitError
	switch {
	case errors.As(err, &state):
		return invalid("IncorrectState", "Instance '%s' is not 'running' or 'stopped', but '%s'.", instance, state.State)
	case errors.As(err, &limit):
		return invalid("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", limit.Count, limit.Type)
	case errors.Is(err, fleet.ErrIndexInUse):
		return invalid("InvalidParameterValue", "Instance '%s' already has an interface attached at device index '%d'.", instance, index)
	case errors.Is(err, fleet.ErrNoSlots):
		return invalid("AttachmentLimitExceeded", "The instance '%s' has as many volumes and network interfaces as the lab attaches to one", instance)
	}
	return err
}

func noInterfaceAttachment(id string) error {
	return invalid("InvalidAttachmentID.NotFound", "The network interface attachment '%s' does not exist.", id)
}

func (s Service) detachNetworkInterface(p *params) (any, error) {
	id := p.required("AttachmentId")
	p.oneOf("Force", "false") // a guest that does not let go keeps it
	if id != "" && !interfaceAttachmentID.MatchString(id) {
		p.fail(invalid("InvalidNetworkInterfaceAttachmentId.Malformed", `Invalid id: "%s" (expecting "eni-attach-...")`, id))
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DetachNetworkInterface"), s.change(func(c *contents) error {
		for _, i := range s.Fleet.Instances() {
			if i.AttachmentID == id && i.HasAddress() {
				return invalid("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
			}
			for _, n := range i.Interfaces {
				if n.AttachmentID == id {
					return s.detachInterface(c, i, n)
				}
			}
		}
		return noInterfaceAttachment(id)
	})
}

func (s Service) detachInterface(c *contents, i fleet.Instance, n fleet.Interface) error {
	if kept, err := c.elasticInterface(n.ID); err == nil {
		kept.Within = ""
	}
	if err := s.Fleet.DetachInterface(i.ID, n.ID); err != nil {
		return fmt.Errorf("detach %s: %w", n.ID, err)
	}
	return nil
}
