package ec2

import (
	"encoding/xml"
	"net/netip"
	"regexp"
	"slices"
	"time"
)

var allocationID = regexp.MustCompile(`^eipalloc-[0-9a-f]{8,17}$`)

// address is an Elastic IP address. The lab has no internet: the address is one that RFC 5737
// keeps for examples, and where it is associated is recorded and shown, but nothing is
// reached by it.
type address struct {
	ID       string            `json:"id"` // of the allocation
	IP       string            `json:"ip"`
	Created  time.Time         `json:"created"`
	Tags     map[string]string `json:"tags,omitempty"`
	Instance string            `json:"instance,omitempty"`
	Link     string            `json:"link,omitempty"` // ID of the association
	Token    string            `json:"token,omitempty"`
}

// publicAddresses are what Elastic IP addresses are taken from.
var publicAddresses = netip.MustParsePrefix("203.0.113.0/24")

// keepAddresses ends the associations with instances that are gone.
func (c *contents) keepAddresses(exists func(instance string) bool) {
	for _, a := range c.Addresses {
		if a.Instance != "" && !exists(a.Instance) {
			a.Instance, a.Link = "", ""
		}
	}
}

func (c *contents) address(id string) (*address, error) {
	if !allocationID.MatchString(id) {
		return nil, invalid("InvalidAllocationID.Malformed", `Invalid id: "%s" (expecting "eipalloc-...")`, id)
	}
	for _, a := range c.Addresses {
		if a.ID == id {
			return a, nil
		}
	}
	return nil, noResource(id)
}

type allocateResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ AllocateAddressResponse"`
	RequestID string   `xml:"requestId"`
	IP        string   `xml:"publicIp"`
	Domain    string   `xml:"domain"`
	ID        string   `xml:"allocationId"`
	Pool      string   `xml:"publicIpv4Pool"`
	Border    string   `xml:"networkBorderGroup"`
}

func (s Service) allocateAddress(p *params) (any, error) {
	made := &address{ID: newID("eipalloc-0"), Created: s.now(), Tags: p.tags("elastic-ip")["elastic-ip"]}
	p.oneOf("Domain", "vpc")
	p.oneOf("PublicIpv4Pool", "amazon")
	if p.internal {
		made.Token = p.text("ClientToken")
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := allocateResponse{RequestID: p.id, Domain: "vpc", Pool: "amazon", Border: s.Plan.Region}
	err := s.change(func(c *contents) error {
		taken := map[string]bool{}
		for _, a := range c.Addresses {
			if made.Token != "" && a.Token == made.Token {
				response.ID, response.IP = a.ID, a.IP
				return nil
			}
			taken[a.IP] = true
		}
		for ip := publicAddresses.Addr().Next(); publicAddresses.Contains(ip.Next()); ip = ip.Next() {
			if made.IP = ip.String(); !taken[made.IP] {
				c.Addresses = append(c.Addresses, made)
				response.ID, response.IP = made.ID, made.IP
				return nil
			}
		}
		return invalid("AddressLimitExceeded", "The maximum number of addresses has been reached.")
	})
	return response, err
}

type associateResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ AssociateAddressResponse"`
	RequestID string   `xml:"requestId"`
	Return    bool     `xml:"return"`
	ID        string   `xml:"associationId"`
}

func (s Service) associateAddress(p *params) (any, error) {
	id, instance := p.required("AllocationId"), p.required("InstanceId")
	move := !p.has("AllowReassociation") || p.boolean("AllowReassociation")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := wellFormed([]string{instance}); err != nil {
		return nil, err
	}
	response := associateResponse{RequestID: p.id, Return: true}
	err := s.change(func(c *contents) error {
		a, err := c.address(id)
		if err != nil {
			return err
		}
		i, err := s.instanceFor(instance)
		switch {
		case err != nil:
			return err
		case !i.HasAddress():
			return invalid("InvalidInstanceID", "The pending or terminated instance '%s' is not in a valid state for this operation.", instance)
		case a.Instance != "" && a.Instance != instance && !move:
			return invalid("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", id, a.Link)
		}
		for _, other := range c.Addresses {
			if other != a && other.Instance == instance { // an interface's address has one
				other.Instance, other.Link = "", ""
			}
		}
		if a.Instance != instance {
			a.Instance, a.Link = instance, newID("eipassoc-0")
		}
		response.ID = a.Link
		return nil
	})
	return response, err
}

func (s Service) disassociateAddress(p *params) (any, error) {
	id := p.required("AssociationId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "DisassociateAddress"), s.change(func(c *contents) error {
		for _, a := range c.Addresses {
			if a.Link == id {
				a.Instance, a.Link = "", ""
				return nil
			}
		}
		return invalid("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", id)
	})
}

func (s Service) releaseAddress(p *params) (any, error) {
	id := p.required("AllocationId")
	if err := p.done(); err != nil {
		return nil, err
	}
	return doneWith(p, "ReleaseAddress"), s.change(func(c *contents) error {
		a, err := c.address(id)
		if err != nil {
			return err
		}
		if a.Link != "" {
			return invalid("InvalidIPAddress.InUse", "The address with allocation id [%s] cannot be released because it is currently in use.", id)
		}
		c.Addresses = slices.DeleteFunc(c.Addresses, func(other *address) bool { return other == a })
		return nil
	})
}

type addressItem struct {
	IP        string `xml:"publicIp"`
	ID        string `xml:"allocationId"`
	Link      string `xml:"associationId,omitempty"`
	Domain    string `xml:"domain"`
	Instance  string `xml:"instanceId,omitempty"`
	Interface string `xml:"networkInterfaceId,omitempty"`
	Owner     string `xml:"networkInterfaceOwnerId,omitempty"`
	Private   string `xml:"privateIpAddress,omitempty"`
	Tags      []tag  `xml:"tagSet>item"`
	Pool      string `xml:"publicIpv4Pool"`
	Border    string `xml:"networkBorderGroup"`
}

type describeAddressesResponse struct {
	XMLName   xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeAddressesResponse"`
	RequestID string        `xml:"requestId"`
	Addresses []addressItem `xml:"addressesSet>item"`
}

func (s Service) describeAddresses(p *params) (any, error) {
	ids, filters := p.list("AllocationId"), p.filters()
	if err := p.done(); err != nil {
		return nil, err
	}
	var all []addressItem
	err := s.change(func(c *contents) error {
		for _, id := range ids {
			if _, err := c.address(id); err != nil {
				return err
			}
		}
		for _, a := range c.Addresses {
			if len(ids) > 0 && !slices.Contains(ids, a.ID) {
				continue
			}
			item := addressItem{IP: a.IP, ID: a.ID, Link: a.Link, Domain: "vpc", Instance: a.Instance, Tags: tagItems(a.Tags), Pool: "amazon", Border: s.Plan.Region}
			if i, err := s.instanceFor(a.Instance); err == nil {
				item.Interface, item.Owner, item.Private = i.InterfaceID, s.Plan.Account, i.Address.String()
			}
			all = append(all, item)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err = choose(all, filters, attributes[addressItem]{
		"allocation-id":        one(func(a addressItem) string { return a.ID }),
		"association-id":       one(func(a addressItem) string { return a.Link }),
		"public-ip":            one(func(a addressItem) string { return a.IP }),
		"instance-id":          one(func(a addressItem) string { return a.Instance }),
		"network-interface-id": one(func(a addressItem) string { return a.Interface }),
		"domain":               one(func(a addressItem) string { return a.Domain }),
	}, func(a addressItem) map[string]string { return tagMap(a.Tags) })
	return describeAddressesResponse{RequestID: p.id, Addresses: all}, err
}
