package dnsmasq

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// awaitServing waits until the process of a VPC or a subnet serves.
func awaitServing(t *testing.T, s *Server, id string) {
	t.Helper()
	s.mu.Lock()
	up := s.processes[id].up
	s.mu.Unlock()
	select {
	case <-up:
	case <-time.After(time.Minute):
		t.Fatalf("nothing serves %s", id)
	}
}

// created adds a VPC with a subnet to the server's plan.
func created(t *testing.T, s *Server) (vpc.VPC, vpc.Subnet) {
	t.Helper()
	networks, err := vpc.Open(s.Plan, "")
	if err != nil {
		t.Fatal(err)
	}
	s.Plan.Networks = networks
	v := vpc.VPC{ID: vpc.NewID("vpc"), CIDR: netip.MustParsePrefix("10.77.0.0/16")}
	subnet := vpc.Subnet{ID: vpc.NewID("subnet"), VPCID: v.ID, CIDR: netip.MustParsePrefix("10.77.8.0/28")}
	subnet.Bridge = vpc.BridgeOf(subnet.ID)
	if err := networks.Follow(func(r *vpc.Record) error {
		if err := network.Lay(s.Plan, r); err != nil {
			return err
		}
		s.Follow()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := networks.Change(func(r *vpc.Record) error {
		r.VPCs, r.Subnets = append(r.VPCs, v), append(r.Subnets, subnet)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return v, subnet
}

func TestASubnetThatIsCreatedServesItsInstances(t *testing.T) {
	s := newServer(t)
	mac, old := net.HardwareAddr{2, 0, 0, 0, 0, 77}, Host{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, Address: netip.MustParseAddr("10.0.17.7")}
	if err := s.Apply([]Host{old, {MAC: mac, Address: netip.MustParseAddr("10.77.8.4")}}); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	s.mu.Lock()
	before := s.processes[s.Plan.VPCID].handle.Pid
	s.mu.Unlock()
	v, subnet := created(t, s)
	awaitServing(t, s, v.ID)

	guest := cable(t, subnet.Bridge, mac)
	offer, err := discover(t, guest, mac, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, offer, map[string]string{
		"address": "10.77.8.4", "mask": "255.255.255.240", "router": "10.77.8.1", "resolver": "10.77.0.2", "hostname": "ip-10-77-8-4",
	})
	names := map[string]string{
		"ip-10-0-17-7.us-west-2.compute.internal": "10.0.17.7", "ip-10-77-8-4.us-west-2.compute.internal": "10.77.8.4",
		vpc.EndpointName: "10.0.0.3", vpc.ControlPlaneName: "10.0.0.10", vpc.RegistryName: "10.0.0.4",
	}
	for name, want := range names {
		if err := resolvesAt(v.Resolver(), name, want); err != nil {
			t.Error(err)
		}
	}
	s.mu.Lock()
	after := s.processes[s.Plan.VPCID].handle.Pid
	s.mu.Unlock()
	if after != before {
		t.Error("the first VPC's resolver was started anew")
	}

	s.mu.Lock()
	ended := s.processes[v.ID].done
	s.mu.Unlock()
	if err := s.Plan.Networks.Change(func(r *vpc.Record) error {
		r.VPCs, r.Subnets = r.VPCs[:1], r.Subnets[:3]
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the resolver of a deleted VPC runs on")
	}
	if _, err := netlink.LinkByName(subnet.Bridge); err == nil {
		t.Error("the bridge of a deleted subnet is left")
	}
}

// A guest in a created subnet takes its lease, and reaches a service at the lab's endpoint.
func TestAGuestInACreatedSubnetReachesTheEndpoint(t *testing.T) {
	s := newServer(t)
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 78}
	if err := s.Apply([]Host{{MAC: mac, Address: netip.MustParseAddr("10.77.8.5")}}); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	_, subnet := created(t, s)
	awaitServing(t, s, subnet.ID)
	for _, service := range []netip.Addr{s.Plan.Endpoint, s.Plan.Metadata, s.Plan.ControlPlane} {
		listener, err := net.Listen("tcp4", netip.AddrPortFrom(service, 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return // closed
				}
				_, _ = fmt.Fprint(conn, conn.RemoteAddr())
				_ = conn.Close()
			}
		}()
	}
	guest := cable(t, subnet.Bridge, mac)
	offer, err := discover(t, guest, mac, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, offer)
	for _, service := range []netip.Addr{s.Plan.Endpoint, s.Plan.Metadata, s.Plan.ControlPlane} {
		var conn net.Conn
		err := namespace.Do(guestName(), func() (err error) {
			conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(service, 8080).String(), 5*time.Second)
			return err
		})
		if err != nil {
			t.Errorf("from the subnet: %v", err)
			continue
		}
		said, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(said), "10.77.8.5:") {
			t.Errorf("%s sees the guest as %q (%v)", service, said, err)
		}
		_ = conn.Close()
	}
}
