// Package dnsmasq is the VPCs' resolvers and DHCP servers: dnsmasq processes inside the lab's
// namespace, one for each VPC's DNS and one for each subnet's DHCP, so that a VPC or a subnet
// comes and goes without a break for the others. They are started again when they die, know
// the instances and the lab's own endpoints, and ask nobody else. They end with the process
// that runs them.
package dnsmasq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// leaseSeconds is how long a DHCP lease lasts on EC2.
const leaseSeconds = 3600

// startLimit is how long dnsmasq may fail at the start before that is an error: one that
// a killed daemon left behind may still hold the port for a moment.
const startLimit = 2 * time.Second

// Find looks for dnsmasq's program.
func Find() (string, error) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/dnsmasq"); err != nil {
			return "", errors.New("dnsmasq is not installed: apt-get install dnsmasq-base")
		}
		path = "/usr/sbin/dnsmasq"
	}
	return path, nil
}

// Host is an instance that is to have an address and a name.
type Host struct {
	MAC     net.HardwareAddr
	Address netip.Addr
}

// Server is the processes and what they are told.
type Server struct {
	Program string
	Plan    vpc.Plan
	Dir     string // where the lists of hosts are written
	Log     string
	Logger  *zap.Logger

	mu        sync.Mutex
	hosts     []Host
	ctx       context.Context     // of Run, while that lasts
	processes map[string]*process // by the ID of the VPC or the subnet
	running   sync.WaitGroup
}

// Apply makes hosts, and no others, known. It may be called before Run.
func (s *Server) Apply(hosts []Host) error {
	hosts = slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return a.Address.Compare(b.Address) })
	dhcp, names := s.lists(hosts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(renameio.WriteFile(s.file("dhcp"), dhcp, 0o644), renameio.WriteFile(s.file("names"), names, 0o644)); err != nil {
		return fmt.Errorf("write what dnsmasq is to know: %w", err)
	}
	s.hosts = hosts
	var failed []error
	for _, p := range s.processes {
		p.stale = true
		failed = append(failed, p.reload())
	}
	return errors.Join(failed...)
}

// Follow starts processes for the plan's VPCs and subnets that are new, and ends those of what
// is gone. Addresses and bridges have to be there. Before Run it does nothing.
func (s *Server) Follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return
	}
	record := s.Plan.Now()
	wanted := map[string]*process{}
	for _, v := range record.VPCs {
		wanted[v.ID] = &process{Server: s, arguments: s.resolver(v)}
	}
	for _, subnet := range record.Subnets {
		if v := record.VPC(subnet.VPCID); v != nil {
			wanted[subnet.ID] = &process{Server: s, leases: subnet.CIDR, arguments: s.addresses(subnet, *v)}
		}
	}
	for id, p := range s.processes {
		if wanted[id] == nil {
			p.end()
			delete(s.processes, id)
		}
	}
	for id, p := range wanted {
		if s.processes[id] == nil {
			s.processes[id] = p
			s.start(p)
		}
	}
}

// start runs p until the server's context ends, or p is ended. The caller holds mu.
func (s *Server) start(p *process) {
	ctx, end := context.WithCancel(s.ctx)
	p.end, p.up, p.done, p.failed = end, make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s.running.Go(func() {
		defer close(p.done)
		defer end()
		p.keep(ctx)
	})
}

// lists renders the dhcp-hostsfile and the hosts file.
func (s *Server) lists(hosts []Host) (dhcp, names []byte) {
	var d, n bytes.Buffer
	fmt.Fprintf(&n, "%s %s\n%s %s\n%s %s\n",
		s.Plan.Endpoint, vpc.EndpointName, s.Plan.Registry, vpc.RegistryName, s.Plan.ControlPlane, vpc.ControlPlaneName)
	for _, h := range hosts {
		fmt.Fprintf(&d, "%s,%s,%s,%d\n", h.MAC, h.Address, s.Plan.HostName(h.Address), leaseSeconds)
		fmt.Fprintf(&n, "%s %s\n", h.Address, s.Plan.PrivateDNSName(h.Address))
	}
	return d.Bytes(), n.Bytes()
}

func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

// common are the arguments that all processes have.
func common() []string {
	return []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-",
		// Root, because the lists lie where only root reads; it serves the lab alone.
		"--user=root", "--group=root", "--no-resolv", "--no-hosts", "--bind-interfaces", "--except-interface=lo",
	}
}

// resolver are the arguments of a VPC's DNS. Every VPC's knows every name.
func (s *Server) resolver(v vpc.VPC) []string {
	return append(common(),
		"--listen-address="+v.Resolver().String(), "--addn-hosts="+s.file("names"),
		"--local=/"+s.Plan.DNSSuffix()+"/", "--local=/lab.internal/", "--bogus-priv",
	)
}

// addresses are the arguments of a subnet's DHCP. With one interface alone dnsmasq binds its
// socket to it, so that processes do not take each other's requests.
func (s *Server) addresses(subnet vpc.Subnet, v vpc.VPC) []string {
	mask := net.IP(net.CIDRMask(subnet.CIDR.Bits(), 32)).String()
	return append(common(),
		"--port=0", "--interface="+subnet.Bridge, "--domain="+s.Plan.DNSSuffix(),
		"--dhcp-hostsfile="+s.file("dhcp"), "--dhcp-authoritative", "--leasefile-ro", "--no-ping",
		"--dhcp-option=option:dns-server,"+v.Resolver().String(),
		fmt.Sprintf("--dhcp-range=%s,static,%s,%d", subnet.CIDR.Addr(), mask, leaseSeconds),
	)
}

// Run keeps dnsmasq running until the context ends. It calls ready once, when all processes
// that the plan asks for at the start answer, and fails when that does not come about.
func (s *Server) Run(ctx context.Context, ready func()) error {
	ctx, end := context.WithCancel(ctx)
	defer s.running.Wait()
	defer end()
	s.mu.Lock()
	s.ctx, s.processes = ctx, map[string]*process{}
	s.mu.Unlock()
	defer s.close()
	s.Follow() //nolint:contextcheck // it takes the one above
	s.mu.Lock()
	first := slices.Collect(maps.Values(s.processes))
	s.mu.Unlock()
	limit, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, p := range first {
		if err := p.awaitUp(ctx, limit.Done()); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		ready()
	}
	<-ctx.Done()
	return nil
}

// close lets no process be started any more.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = nil
}
