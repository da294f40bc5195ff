package dnsmasq

import (
	"context"
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

	"go.uber.org/zap/zaptest"

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
		time.Sleep(10 * time.Millisecond) // what is waited for may want this processor
	}
}

func resolves(s *Server, name, want string) error { return resolvesAt(s.Plan.Resolver, name, want) }

func resolvesAt(resolver netip.Addr, name, want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	got, err := vpc.LookupAt(resolver).LookupHost(ctx, name+".")
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
	resolver := s.processes[s.Plan.VPCID]
	before := resolver.handle.Pid
	_ = resolver.handle.Signal(syscall.SIGKILL)
	s.mu.Unlock()
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if resolver.handle == nil || resolver.handle.Pid == before || !resolver.serving {
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
	expect(t, offer, map[string]string{
		"address": "10.0.17.9", "mask": "255.255.240.0", "router": "10.0.16.1", "resolver": "10.0.0.2",
		"hostname": "ip-10-0-17-9", "domain": "us-west-2.compute.internal",
	})
	if offer, err := discover(t, guest, net.HardwareAddr{2, 0, 0, 0, 0, 10}, 300*time.Millisecond); err == nil {
		t.Errorf("a stranger was offered %s", offer.address)
	}
}

// An instance that was terminated has not given its lease back.
func TestAnAddressGoesToTheNextInstanceAtOnce(t *testing.T) {
	s := newServer(t)
	address := netip.MustParseAddr("10.0.17.9")
	first, second := net.HardwareAddr{2, 0, 0, 0, 0, 9}, net.HardwareAddr{2, 0, 0, 0, 0, 10}
	if err := s.Apply([]Host{{MAC: first, Address: address}}); err != nil {
		t.Fatal(err)
	}
	run(t, s)
	guest := cable(t, s.Plan.Subnets[1].Bridge, first)
	offer, err := discover(t, guest, first, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(guest, request(first, offer.address), first, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Apply(nil), s.Apply([]Host{{MAC: second, Address: address}})); err != nil {
		t.Fatal(err)
	}
	offer, err = discover(t, guest, second, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, offer, map[string]string{"address": "10.0.17.9"})
}
