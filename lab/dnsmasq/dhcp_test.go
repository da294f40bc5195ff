package dnsmasq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
)

// cable connects a guest to the bridge: a veth pair whose other end, "guest", lies in a
// namespace of its own. It returns a DHCP client's socket in there.
func cable(t *testing.T, bridge string, mac net.HardwareAddr) *os.File {
	t.Helper()
	name := guestName()
	if err := namespace.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespace.Delete(name) })
	guest, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = "port", master.Attrs().Index
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "guest", PeerNamespace: netlink.NsFd(guest), PeerHardwareAddr: mac}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	if err := netlink.LinkSetUp(pair); err != nil {
		t.Fatal(err)
	}
	var fd int
	err = namespace.Do(name, func() error {
		link, err := netlink.LinkByName("guest")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "guest"),
			unix.Bind(fd, &unix.SockaddrInet4{Port: 68}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "dhcp")
	t.Cleanup(func() { _ = file.Close() })
	return file
}

type offer struct {
	address net.IP
	options map[byte][]byte
}

// Types of DHCP messages.
const (
	discovery = 1
	requested = 3
)

// message makes a DHCP message (RFC 2131) of a client.
func message(mac net.HardwareAddr, kind byte) []byte {
	m := make([]byte, 240, 300)
	m[0], m[1], m[2] = 1, 1, 6 // request, Ethernet, length of an address
	copy(m[4:8], mac[2:])      // transaction
	binary.BigEndian.PutUint16(m[10:], 0x8000)
	copy(m[28:], mac)
	copy(m[236:], []byte{99, 130, 83, 99})
	return append(m, 53, 1, kind)
}

// request asks for an address that was offered.
func request(mac net.HardwareAddr, address net.IP) []byte {
	return append(append(message(mac, requested), 50, 4), append(address.To4(), 255)...)
}

// discover broadcasts a DHCPDISCOVER and waits for an offer.
func discover(t *testing.T, socket *os.File, mac net.HardwareAddr, limit time.Duration) (offer, error) {
	t.Helper()
	return ask(socket, append(message(mac, discovery), 55, 5, 1, 3, 6, 12, 15, 255), mac, limit)
}

// ask broadcasts a message and waits for the answer, repeating it as clients do: the
// bridge's port may not forward yet.
func ask(socket *os.File, message []byte, mac net.HardwareAddr, limit time.Duration) (offer, error) {
	fd := int(socket.Fd())
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err := unix.Sendto(fd, message, 0, &unix.SockaddrInet4{Port: 67, Addr: [4]byte{255, 255, 255, 255}}); err != nil {
			return offer{}, err
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
		answer := make([]byte, 1500)
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil || n < 240 || !strings.HasPrefix(string(answer[4:8]), string(mac[2:])) {
			continue
		}
		o := offer{address: net.IP(answer[16:20]), options: map[byte][]byte{}}
		for rest := answer[240:n]; len(rest) > 2 && rest[0] != 255; rest = rest[2+int(rest[1]):] {
			o.options[rest[0]] = rest[2 : 2+int(rest[1])]
		}
		return o, nil
	}
	return offer{}, errors.New("no answer")
}

// settle gives the guest what it was offered, as a DHCP client does.
func settle(t *testing.T, o offer) {
	t.Helper()
	ones, _ := net.IPMask(o.options[1]).Size()
	err := namespace.Do(guestName(), func() error {
		link, err := netlink.LinkByName("guest")
		if err != nil {
			return err
		}
		mask := net.CIDRMask(ones, 32)
		return errors.Join(
			netlink.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{IP: o.address, Mask: mask}}),
			netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: o.options[3]}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// expect compares what an offer holds.
func expect(t *testing.T, o offer, want map[string]string) {
	t.Helper()
	got := map[string]string{
		"address": o.address.String(), "mask": net.IP(o.options[1]).String(), "router": net.IP(o.options[3]).String(),
		"resolver": net.IP(o.options[6]).String(), "hostname": string(o.options[12]), "domain": string(o.options[15]),
	}
	for what, value := range want {
		if got[what] != value {
			t.Errorf("%s is %s, want %s", what, got[what], value)
		}
	}
}

func guestName() string { return fmt.Sprintf("ovenbird-guest-%d", os.Getpid()) }
