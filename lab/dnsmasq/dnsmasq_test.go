package dnsmasq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/namespace/namespacetest"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

func TestMain(m *testing.M) { os.Exit(namespacetest.Main(m)) }

func newServer(t *testing.T) *Server {
	t.Helper()
	namespacetest.Need(t)
	program, err := Find()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	return &Server{
		Program: program, Plan: vpc.Default(), Dir: dir,
		Log: filepath.Join(dir, "log"), Logger: zaptest.NewLogger(t),
	}
}

// run starts s and waits until it answers.
func run(t *testing.T, s *Server) {
	t.Helper()
	if err := network.Setup(s.Plan, "test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
}

// eventually tries f until it succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func resolves(s *Server, name, want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	got, err := s.Plan.Lookup().LookupHost(ctx, name+".")
	if err != nil {
		return err
	}
	if len(got) != 1 || got[0] != want {
		return fmt.Errorf("%s resolves to %v, want %s", name, got, want)
	}
	return nil
}

func TestInstancesAreFoundByNameAndAddressAndForgotten(t *testing.T) {
	s := newServer(t)
	host := Host{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, Address: netip.MustParseAddr("10.0.17.7")}
	if err := s.Apply([]Host{host}); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	const name = "ip-10-0-17-7.us-west-2.compute.internal"
	for name, want := range map[string]string{name: "10.0.17.7", "aws.lab.internal": "10.0.0.3", "eks.lab.internal": "10.0.0.10"} {
		if err := resolves(s, name, want); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if names, err := s.Plan.Lookup().LookupAddr(ctx, "10.0.17.7"); err != nil || len(names) != 1 || names[0] != name+"." {
		t.Errorf("reverse: %v, %v", names, err)
	}
	var dns *net.DNSError
	if _, err := s.Plan.Lookup().LookupHost(ctx, "ip-10-0-17-8.us-west-2.compute.internal."); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("an instance that is not there: %v", err)
	}

	if err := s.Apply(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if err := resolves(s, name, "10.0.17.7"); err == nil {
			return errors.New("a terminated instance still has its name")
		}
		return nil
	})
}

func TestDnsmasqIsStartedAgainWhenItDies(t *testing.T) {
	s := newServer(t)
	if err := s.Apply(nil); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	s.mu.Lock()
	before := s.process.Pid
	_ = s.process.Signal(syscall.SIGKILL)
	s.mu.Unlock()
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.process == nil || s.process.Pid == before || !s.serving {
			return errors.New("dnsmasq is not back")
		}
		return nil
	})
	if err := resolves(s, vpc.EndpointName, "10.0.0.3"); err != nil {
		t.Error(err)
	}
}

func TestDnsmasqsOwnWordsAreInTheErrorWhenItCannotStart(t *testing.T) {
	s := newServer(t)
	if err := errors.Join(s.Apply(nil), network.Setup(s.Plan, "test")); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.ListenPacket("udp", "10.0.0.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	err = s.Run(t.Context(), func() { t.Error("ready") })
	if err == nil || !strings.Contains(err.Error(), "it said: dnsmasq: failed to create listening socket") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyInstancesGetALeaseAndItIsTheirs(t *testing.T) {
	s := newServer(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	if err := s.Apply([]Host{{MAC: mac, Address: netip.MustParseAddr("10.0.17.9")}}); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	guest := cable(t, s.Plan.Subnets[1].Bridge, mac)

	offer, err := discover(t, guest, mac, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"address":  {offer.address.String(), "10.0.17.9"},
		"mask":     {net.IP(offer.options[1]).String(), "255.255.240.0"},
		"router":   {net.IP(offer.options[3]).String(), "10.0.16.1"},
		"resolver": {net.IP(offer.options[6]).String(), "10.0.0.2"},
		"hostname": {string(offer.options[12]), "ip-10-0-17-9"},
		"domain":   {string(offer.options[15]), "us-west-2.compute.internal"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, want %s", what, pair[0], pair[1])
		}
	}
	if offer, err := discover(t, guest, net.HardwareAddr{2, 0, 0, 0, 0, 10}, 300*time.Millisecond); err == nil {
		t.Errorf("a stranger was offered %s", offer.address)
	}
}

// cable connects a guest to the bridge: a veth pair whose other end, "guest", lies in a
// namespace of its own. It returns a DHCP client's socket in there.
func cable(t *testing.T, bridge string, mac net.HardwareAddr) *os.File {
	t.Helper()
	name := fmt.Sprintf("ovenbird-guest-%d", os.Getpid())
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

// discover broadcasts a DHCPDISCOVER (RFC 2131) and waits for an offer, repeating it as
// clients do: the bridge's port may not forward yet.
func discover(t *testing.T, socket *os.File, mac net.HardwareAddr, limit time.Duration) (offer, error) {
	t.Helper()
	fd := int(socket.Fd())
	message := make([]byte, 240, 300)
	message[0], message[1], message[2] = 1, 1, 6 // request, Ethernet, length of an address
	copy(message[4:8], mac[2:])                  // transaction
	binary.BigEndian.PutUint16(message[10:], 0x8000)
	copy(message[28:], mac)
	copy(message[236:], []byte{99, 130, 83, 99})
	message = append(message, 53, 1, 1, 55, 5, 1, 3, 6, 12, 15, 255)
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
	return offer{}, errors.New("no offer")
}
