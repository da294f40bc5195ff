package ec2

import "github.com/ovenbird-dev/ovenbird/lab/fleet"

// interfaceChange is what ModifyNetworkInterfaceAttribute asks for: one attribute.
type interfaceChange struct {
	description *string
	groups      []string
	attachment  string // whose deleteOnTermination is to change
	delete      bool
}

func (p *params) interfaceChange() interfaceChange {
	var c interfaceChange
	var given []string
	if p.has("Description.Value") {
		text := p.text("Description.Value")
		c.description, given = &text, append(given, "description")
	}
	if c.groups = p.list("SecurityGroupId"); len(c.groups) > 0 {
		given = append(given, "groupSet")
	}
	if p.has("SourceDestCheck.Value") {
		given = append(given, "sourceDestCheck")
		if !p.boolean("SourceDestCheck.Value") {
			p.fail(invalid("UnsupportedOperation", "The lab checks the source of every packet: SourceDestCheck cannot be false."))
		}
	}
	if p.has("Attachment.AttachmentId") || p.has("Attachment.DeleteOnTermination") {
		given = append(given, "attachment")
		c.attachment, c.delete = p.required("Attachment.AttachmentId"), p.boolean("Attachment.DeleteOnTermination")
		p.required("Attachment.DeleteOnTermination")
	}
	switch len(given) {
	case 0:
		p.fail(invalid("InvalidParameterCombination", "No attributes specified."))
	case 1:
	default:
		p.fail(invalid("InvalidParameterCombination", "Fields for multiple attribute types specified: %s, %s", given[0], given[1]))
	}
	return c
}

func (s Service) modifyInterface(p *params) (any, error) {
	id, change := p.required("NetworkInterfaceId"), p.interfaceChange()
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "ModifyNetworkInterfaceAttribute"), s.change(func(c *contents) error {
		if i, first := s.firstOf(id); first {
			return s.modifyFirst(c, i, change)
		}
		n, err := c.elasticInterface(id)
		if err != nil {
			return err
		}
		i, to, attached := s.attachedTo(id)
		switch {
		case change.description != nil:
			n.Description = *change.description
		case len(change.groups) > 0:
			subnet, _ := s.Plan.Subnet(n.SubnetID)
			if n.Groups, err = c.groupsIn(subnet, change.groups); err != nil {
				return err
			}
			if attached {
				return s.Fleet.Regroup(i.ID, id, n.Groups)
			}
		case change.attachment != "":
			if !attached || to.AttachmentID != change.attachment {
				return noInterfaceAttachment(change.attachment)
			}
			n.Within = ""
			if change.delete {
				n.Within = i.ID
			}
		}
		return nil
	})
}

// modifyFirst changes the interface that an instance began with.
func (s Service) modifyFirst(c *contents, i fleet.Instance, change interfaceChange) error {
	switch {
	case change.description != nil:
		return invalid("UnsupportedOperation", "The lab's instances begin with a network interface that has no description.")
	case len(change.groups) > 0:
		subnet, _ := s.Plan.Subnet(i.SubnetID)
		groups, err := c.groupsIn(subnet, change.groups)
		if err != nil {
			return err
		}
		return s.Fleet.Regroup(i.ID, i.InterfaceID, groups)
	case change.attachment != "" && change.attachment != i.AttachmentID:
		return noInterfaceAttachment(change.attachment)
	case change.attachment != "" && !change.delete:
		return invalid("UnsupportedOperation", "The lab deletes an instance's first network interface with it: DeleteOnTermination cannot be false.")
	}
	return nil
}
