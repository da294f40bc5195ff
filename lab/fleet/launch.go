package fleet

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Launch records up to order.Max new instances and starts them in the background. An
// order with the token of an earlier one gets that one's instances again.
func (f *Fleet) Launch(order Order) ([]Instance, error) {
	subnet, ok := f.Plan.Subnet(order.SubnetID)
	if !ok {
		return nil, fmt.Errorf("no subnet %s", order.SubnetID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if earlier := f.byToken(order.ClientToken); len(earlier) > 0 {
		if earlier[0].Digest != order.Digest {
			return nil, ErrTokenReused
		}
		return earlier, nil
	}
	addresses, err := f.allocate(subnet, order)
	if err != nil {
		return nil, err
	}
	reservation := newID("r-0")
	launched := make([]Instance, 0, len(addresses))
	for index, address := range addresses {
		i := f.newInstance(order, subnet, address)
		i.ReservationID, i.LaunchIndex = reservation, index
		launched = append(launched, i)
		f.instances[i.ID] = &entry{Instance: i, changed: make(chan struct{}, 1)}
	}
	if err := f.save(); err != nil {
		for _, i := range launched {
			delete(f.instances, i.ID)
		}
		return nil, err
	}
	if ctx := f.ctx; ctx != nil {
		for _, i := range launched {
			f.drivers.Go(func() { f.drive(ctx, i.ID) })
		}
	}
	return launched, nil
}

func (f *Fleet) byToken(token string) []Instance {
	if token == "" {
		return nil
	}
	var found []Instance
	for _, i := range f.list() {
		if i.ClientToken == token {
			found = append(found, i)
		}
	}
	return found
}

// allocate finds free addresses, at least order.Min and at most order.Max. They are
// picked at random, as EC2 does: a name that was in use lately does not come back at once.
func (f *Fleet) allocate(subnet vpc.Subnet, order Order) ([]netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, e := range f.instances {
		if e.HasAddress() {
			taken[e.Address] = true
		}
	}
	for _, a := range order.Taken {
		taken[a] = true
	}
	if order.Address.IsValid() {
		if taken[order.Address] {
			return nil, fmt.Errorf("%w: %s", ErrAddressInUse, order.Address)
		}
		return []netip.Addr{order.Address}, nil
	}
	var free []netip.Addr
	for n := range subnet.Size() {
		if a := subnet.Address(n); !taken[a] {
			free = append(free, a)
		}
	}
	if len(free) < order.Min {
		return nil, fmt.Errorf("%w: %s has %d, %d are needed", ErrNoAddresses, subnet.ID, len(free), order.Min)
	}
	swap := func(i, j int) { free[i], free[j] = free[j], free[i] }
	mathrand.Shuffle(len(free), swap) //nolint:gosec // no secret depends on it
	return free[:min(order.Max, len(free))], nil
}

func (f *Fleet) newInstance(order Order, subnet vpc.Subnet, address netip.Addr) Instance {
	now := f.Now().UTC()
	return Instance{
		ID:          newID("i-0"),
		ClientToken: order.ClientToken, Digest: order.Digest,
		ImageID: order.ImageID, RootDevice: order.RootDevice, Type: order.Type.Name,
		SubnetID: subnet.ID, Zone: subnet.Zone, Address: address, MAC: newMAC().String(),
		InterfaceID: newID("eni-0"), AttachmentID: newID("eni-attach-0"),
		VolumeID: newID("vol-0"), VolumeGiB: order.VolumeGiB,
		Volume: order.Volume, VolumeTags: maps.Clone(order.VolumeTags), InterfaceTags: maps.Clone(order.InterfaceTags), SpotTags: maps.Clone(order.SpotTags),
		Groups: slices.Clone(order.Groups), EBSOptimized: order.EBSOptimized, Monitoring: order.Monitoring,
		Tags: maps.Clone(order.Tags), UserData: order.UserData, Profile: order.Profile,
		MetadataTags: order.MetadataTags, TerminateOnShutdown: order.TerminateOnShutdown,
		Spot: order.Spot, State: Pending, Reason: pendingReason(), LaunchTime: now, StateTime: now,
	}
}

func pendingReason() Reason { return Reason{Code: "pending", Message: "pending"} }

// newID is prefix and 16 random hexadecimal digits.
func newID(prefix string) string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b)
}

// newMAC is a locally administered address under 02, as EC2's are.
func newMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac)
	mac[0] = 0x02
	return mac
}
