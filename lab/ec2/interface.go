package ec2

import (
	"encoding/xml"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

var (
	interfaceID           = regexp.MustCompile(`^eni-[0-9a-f]{8,17}$`)
	interfaceAttachmentID = regexp.MustCompile(`^eni-attach-[0-9a-f]{8,17}$`)
)

// elasticInterface is a network interface that was made by itself. Those that instances begin
// with are the fleet's, and so is which instance an interface is attached to.
type elasticInterface struct {
	ID          string            `json:"id"`
	SubnetID    string            `json:"subnetId"`
	Address     netip.Addr        `json:"address"`
	MAC         string            `json:"mac"`
	Description string            `json:"description,omitempty"`
	Groups      []fleet.Group     `json:"groups,omitempty"`
	Created     time.Time         `json:"created"`
	Tags        map[string]string `json:"tags,omitempty"`
	Request     tokenOf           `json:"request,omitzero"`
	// Within is the instance that takes the interface with it when it is terminated; empty:
	// the interface outlives whatever it is attached to.
	Within string `json:"within,omitempty"`
}

// keepInterfaces removes what went with its instance, and lets go of an instance that the
// interface was taken off.
func (c *contents) keepInterfaces(instances []fleet.Instance) {
	c.Interfaces = slices.DeleteFunc(c.Interfaces, func(n *elasticInterface) bool {
		return n.Within != "" && !slices.ContainsFunc(instances, func(i fleet.Instance) bool { return i.ID == n.Within && i.HasAddress() })
	})
	for _, n := range c.Interfaces {
		if n.Within != "" && !slices.ContainsFunc(instances, func(i fleet.Instance) bool { return i.ID == n.Within && has(i, n.ID) }) {
			n.Within = ""
		}
	}
}

func has(i fleet.Instance, eni string) bool {
	return slices.ContainsFunc(i.Interfaces, func(n fleet.Interface) bool { return n.ID == eni })
}

func (c *contents) elasticInterface(id string) (*elasticInterface, error) {
	if !interfaceID.MatchString(id) {
		return nil, malformedInterface(id)
	}
	for _, n := range c.Interfaces {
		if n.ID == id {
			return n, nil
		}
	}
	return nil, noResource(id)
}

func malformedInterface(id string) error {
	return invalid("InvalidNetworkInterfaceId.Malformed", `Invalid id: "%s" (expecting "eni-...")`, id)
}

// reserved are the addresses of interfaces that were made by themselves.
func (c *contents) reserved() []netip.Addr {
	var all []netip.Addr
	for _, n := range c.Interfaces {
		all = append(all, n.Address)
	}
	return all
}

type interfaceAttachment struct {
	attachment
	Instance string `xml:"instanceId"`
	Owner    string `xml:"instanceOwnerId"`
}

type interfaceItem struct {
	ID               string               `xml:"networkInterfaceId"`
	SubnetID         string               `xml:"subnetId"`
	VPCID            string               `xml:"vpcId"`
	Zone             string               `xml:"availabilityZone"`
	ZoneID           string               `xml:"availabilityZoneId"`
	Description      string               `xml:"description"`
	Owner            string               `xml:"ownerId"`
	RequesterManaged bool                 `xml:"requesterManaged"`
	Status           string               `xml:"status"`
	MAC              string               `xml:"macAddress"`
	Address          string               `xml:"privateIpAddress"`
	DNSName          string               `xml:"privateDnsName"`
	SourceDestCheck  bool                 `xml:"sourceDestCheck"`
	Groups           []groupIdentifier    `xml:"groupSet>item"`
	Attachment       *interfaceAttachment `xml:"attachment"`
	Tags             []tag                `xml:"tagSet>item"`
	Addresses        []privateAddressItem `xml:"privateIpAddressesSet>item"`
	Type             string               `xml:"interfaceType"`
}

// interfaceItem is what is told of an interface, attached to nothing.
func (s Service) interfaceItem(n *elasticInterface) interfaceItem {
	subnet, _ := s.Plan.Subnet(n.SubnetID)
	name := s.Plan.PrivateDNSName(n.Address)
	return interfaceItem{
		ID: n.ID, SubnetID: n.SubnetID, VPCID: subnet.VPCID, Zone: subnet.Zone, ZoneID: subnet.ZoneID, Description: n.Description,
		Owner: s.Plan.Account, Status: "available", MAC: n.MAC, Address: n.Address.String(), DNSName: name, SourceDestCheck: true,
		Groups: groupIdentifiers(n.Groups), Tags: tagItems(n.Tags), Type: "interface",
		Addresses: []privateAddressItem{{Address: n.Address.String(), DNSName: name, Primary: true}},
	}
}

// attachedItem is what is told of an interface that may be attached.
func (s Service) attachedItem(n *elasticInterface) interfaceItem {
	item := s.interfaceItem(n)
	if i, to, ok := s.attachedTo(n.ID); ok {
		item.Status = "in-use"
		item.Attachment = &interfaceAttachment{attachment: attachmentItem(to, n), Instance: i.ID, Owner: s.Plan.Account}
	}
	return item
}

func attachmentItem(to fleet.Interface, n *elasticInterface) attachment {
	return attachment{
		ID: to.AttachmentID, DeviceIndex: to.Index, Status: string(to.State), AttachTime: to.Time.Format(timeFormat), DeleteOnTermination: n.Within != "",
	}
}

// firstItem is what is told of the interface that an instance begins with.
func (s Service) firstItem(i fleet.Instance) interfaceItem {
	item := s.interfaceItem(&elasticInterface{
		ID: i.InterfaceID, SubnetID: i.SubnetID, Address: i.Address, MAC: i.MAC, Groups: i.Groups, Tags: i.InterfaceTags,
	})
	item.Status = "in-use"
	item.Attachment = &interfaceAttachment{
		attachment: attachment{ID: i.AttachmentID, Status: "attached", AttachTime: i.LaunchTime.Format(timeFormat), DeleteOnTermination: true},
		Instance:   i.ID, Owner: s.Plan.Account,
	}
	return item
}

// attachedTo is the instance that has an interface besides its first one.
func (s Service) attachedTo(id string) (fleet.Instance, fleet.Interface, bool) {
	for _, i := range s.Fleet.Instances() {
		for _, n := range i.Interfaces {
			if n.ID == id && i.HasAddress() {
				return i, n, true
			}
		}
	}
	return fleet.Instance{}, fleet.Interface{}, false
}

// moreInterfaces are the interfaces of an instance besides its first one, as DescribeInstances
// tells of them.
func (s Service) moreInterfaces(i fleet.Instance) ([]networkInterface, error) {
	var all []networkInterface
	if len(i.Interfaces) == 0 {
		return nil, nil
	}
	err := s.change(func(c *contents) error {
		for _, to := range i.Interfaces {
			n, err := c.elasticInterface(to.ID)
			if err != nil {
				continue // removed since the instance was looked up
			}
			item := s.interfaceItem(n)
			all = append(all, networkInterface{
				ID: n.ID, SubnetID: n.SubnetID, VPCID: item.VPCID, Description: n.Description, Owner: item.Owner, Status: "in-use", MAC: n.MAC,
				Address: item.Address, DNSName: item.DNSName, SourceDestCheck: true, Groups: item.Groups, Attachment: attachmentItem(to, n),
				Addresses: item.Addresses, Type: item.Type,
			})
		}
		return nil
	})
	return all, err
}

type createInterfaceResponse struct {
	XMLName     xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateNetworkInterfaceResponse"`
	RequestID   string        `xml:"requestId"`
	Interface   interfaceItem `xml:"networkInterface"`
	ClientToken string        `xml:"clientToken,omitempty"`
}

func (s Service) createNetworkInterface(p *params) (any, error) {
	made := &elasticInterface{
		ID: newID("eni-0"), MAC: fleet.NewMAC(), SubnetID: p.required("SubnetId"), Description: p.text("Description"),
		Created: s.now(), Request: p.token(), Tags: p.tags("network-interface")["network-interface"],
	}
	groups := p.list("SecurityGroupId")
	p.oneOf("InterfaceType", "interface")
	subnet, ok := s.Plan.Subnet(made.SubnetID)
	if !ok && made.SubnetID != "" {
		p.fail(noSubnet(made.SubnetID))
	}
	p.flattenAddresses()
	made.Address = privateAddress(p, subnet, 1)
	if err := p.done(); err != nil {
		return nil, err
	}
	response := createInterfaceResponse{RequestID: p.id, ClientToken: p.text("ClientToken")}
	err := s.change(func(c *contents) error {
		for _, n := range c.Interfaces {
			if again, err := made.Request.again(n.Request); again || err != nil {
				response.Interface = s.attachedItem(n)
				return err
			}
		}
		subnet, ok := s.Plan.Subnet(made.SubnetID)
		if !ok {
			return noSubnet(made.SubnetID)
		}
		var err error
		if made.Groups, err = c.groupsIn(subnet, groups); err != nil {
			return err
		}
		if made.Address, err = s.freeAddress(c, subnet, made.Address); err != nil {
			return err
		}
		c.Interfaces = append(c.Interfaces, made)
		response.Interface = s.interfaceItem(made)
		response.Interface.Status = "pending"
		return nil
	})
	return response, err
}

// flattenAddresses makes of a list with the primary address alone the parameter that means the
// same. The lab's interfaces have one address.
func (p *params) flattenAddresses() {
	members := p.members("PrivateIpAddresses")
	if len(members) == 0 {
		return
	}
	text, primary := p.required(members[0]+".PrivateIpAddress"), p.boolean(members[0]+".Primary")
	switch {
	case p.has("PrivateIpAddress"):
		p.fail(invalid("InvalidParameterCombination", "The parameters privateIpAddress and privateIpAddresses cannot be used together"))
	case len(members) > 1 || !primary:
		p.fail(invalid("UnsupportedOperation", "The lab's network interfaces have a primary private address and no others."))
	}
	p.values = maps.Clone(p.values)
	p.values.Set("PrivateIpAddress", text)
}

// freeAddress is the address that was asked for, or any one that nothing has.
func (s Service) freeAddress(c *contents, subnet vpc.Subnet, wanted netip.Addr) (netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, i := range s.Fleet.Instances() {
		if i.HasAddress() {
			taken[i.Address] = true
		}
	}
	for _, a := range c.reserved() {
		taken[a] = true
	}
	if wanted.IsValid() {
		if taken[wanted] {
			return wanted, invalid("InvalidIPAddress.InUse", "Address %s is in use.", wanted)
		}
		return wanted, nil
	}
	var free []netip.Addr
	for n := range subnet.Size() {
		if a := subnet.Address(n); !taken[a] {
			free = append(free, a)
		}
	}
	if len(free) == 0 {
		return wanted, invalid("InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
	}
	return free[mathrand.IntN(len(free))], nil //nolint:gosec // no secret depends on it
}

func (s Service) deleteNetworkInterface(p *params) (any, error) {
	id := p.required("NetworkInterfaceId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DeleteNetworkInterface"), s.change(func(c *contents) error {
		if _, first := s.firstOf(id); first {
			return interfaceInUse(id)
		}
		n, err := c.elasticInterface(id)
		if err != nil {
			return err
		}
		if _, _, attached := s.attachedTo(id); attached {
			return interfaceInUse(id)
		}
		c.Interfaces = slices.DeleteFunc(c.Interfaces, func(other *elasticInterface) bool { return other == n })
		return nil
	})
}

func interfaceInUse(id string) error {
	return invalid("InvalidParameterValue", "Network interface '%s' is currently in use.", id)
}

// firstOf is the instance that began with the interface.
func (s Service) firstOf(id string) (fleet.Instance, bool) {
	for _, i := range s.Fleet.Instances() {
		if i.InterfaceID == id && i.HasAddress() {
			return i, true
		}
	}
	return fleet.Instance{}, false
}
