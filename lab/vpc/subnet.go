package vpc

import (
	"encoding/binary"
	"net/netip"
)

// How many addresses at the start of a subnet are never an instance's: EC2 keeps four, the
// lab's own endpoints need some more.
const (
	reserved    = 4
	ownReserved = 20
)

// Subnet lies in one availability zone; its first address is the VPC's router.
type Subnet struct {
	ID     string       `json:"id"`
	VPCID  string       `json:"vpcId"`
	Zone   string       `json:"zone"`
	ZoneID string       `json:"zoneId"`
	CIDR   netip.Prefix `json:"cidr"`
	Bridge string       `json:"bridge"` // the interface that carries it in the lab's namespace
	// Reserved is how many addresses at its start no instance gets; 0: as many as EC2 keeps.
	Reserved int `json:"reserved,omitempty"`

	Token    string            `json:"token,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	PublicIP bool              `json:"publicIp,omitempty"` // instances get a public address; recorded
	IPv6     netip.Prefix      `json:"ipv6,omitzero"`      // recorded, not carried
	AutoIPv6 bool              `json:"autoIpv6,omitempty"` // instances get an IPv6 address; recorded
}

// Router is the subnet's first address.
func (s Subnet) Router() netip.Addr { return s.CIDR.Masked().Addr().Next() }

func (s Subnet) reserved() int { return max(s.Reserved, reserved) }

// Size is how many addresses the subnet has for instances.
func (s Subnet) Size() int {
	return 1<<(32-s.CIDR.Bits()) - s.reserved() - 1
}

// Address is the subnet's nth address for instances, counted from 0 to Size()-1.
func (s Subnet) Address(n int) netip.Addr {
	base := s.CIDR.Masked().Addr().As4()
	var addr [4]byte
	//nolint:gosec // Size bounds n
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(base[:])+uint32(s.reserved()+n))
	return netip.AddrFrom4(addr)
}

// Assignable tells whether addr may be given to an instance of the subnet.
func (s Subnet) Assignable(addr netip.Addr) bool {
	return s.CIDR.Contains(addr) && !addr.Less(s.Address(0)) && !s.Address(s.Size()-1).Less(addr)
}
