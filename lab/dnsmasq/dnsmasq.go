// Package dnsmasq is the VPC's resolver and DHCP server: a dnsmasq process inside the
// lab's namespace, started again when it dies. It knows the instances and the lab's own
// endpoints and asks nobody else. It ends with the process that runs it.
package dnsmasq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/retry"
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

// Server is the process and what it is told.
type Server struct {
	Program string
	Plan    vpc.Plan
	Dir     string // where the lists of hosts are written
	Log     string
	Logger  *zap.Logger

	mu      sync.Mutex
	process *os.Process // nil while none runs
	serving bool        // the process answers; before that, a SIGHUP might end it
	stale   bool        // the lists have changed since the process was started
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
	s.stale = true
	return s.reload()
}

// reload makes the process read its lists again if it has to and can. The caller holds mu.
func (s *Server) reload() error {
	if s.process == nil || !s.serving || !s.stale {
		return nil
	}
	s.stale = false
	if err := s.process.Signal(syscall.SIGHUP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("tell dnsmasq to read its lists again: %w", err)
	}
	return nil
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

func (s *Server) arguments() []string {
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-",
		// Root, because the lists lie where only root reads; it serves the lab alone.
		"--user=root", "--group=root",
		"--bind-interfaces", "--except-interface=lo", "--listen-address=" + s.Plan.Resolver.String(),
		"--no-resolv", "--no-hosts", "--addn-hosts=" + s.file("names"),
		"--local=/" + s.Plan.DNSSuffix() + "/", "--local=/lab.internal/", "--bogus-priv",
		"--domain=" + s.Plan.DNSSuffix(),
		"--dhcp-hostsfile=" + s.file("dhcp"), "--dhcp-authoritative", "--leasefile-ro", "--no-ping",
		"--dhcp-option=option:dns-server," + s.Plan.Resolver.String(),
	}
	for _, subnet := range s.Plan.Subnets {
		mask := net.IP(net.CIDRMask(subnet.CIDR.Bits(), 32)).String()
		args = append(args, "--interface="+subnet.Bridge,
			fmt.Sprintf("--dhcp-range=%s,static,%s,%d", subnet.CIDR.Addr(), mask, leaseSeconds))
	}
	return args
}

// Run keeps dnsmasq running until the context ends. It calls ready once, when dnsmasq
// answers for the first time, and fails when that does not come about.
func (s *Server) Run(ctx context.Context, ready func()) error {
	// PDEATHSIG goes off when the thread that started the child ends, so that thread has
	// to live as long as this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	backoff := retry.Backoff{First: 100 * time.Millisecond, Limit: 5 * time.Second}
	began := time.Now()
	var once sync.Once
	answered := false
	for {
		started := time.Now()
		alive, stop := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() {
			if s.answers(alive) == nil {
				s.serve()
				once.Do(func() { answered = true; ready() })
			}
		})
		err := s.once(ctx)
		stop()
		watcher.Wait()
		switch {
		case ctx.Err() != nil:
			return nil
		case !answered && time.Since(began) > startLimit:
			return err
		}
		if time.Since(started) > time.Minute {
			backoff.Reset()
		}
		wait := backoff.Next()
		s.Logger.Warn("dnsmasq ended; starting it again", zap.Error(err), zap.Duration("after", wait))
		if retry.Wait(ctx, wait) != nil {
			return nil
		}
	}
}

// serve takes note that the process answers.
func (s *Server) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	if err := s.reload(); err != nil {
		s.Logger.Warn("dnsmasq may not know every instance", zap.Error(err))
	}
}

// once runs dnsmasq until it ends.
func (s *Server) once(ctx context.Context) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open dnsmasq's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	said := &tail{}
	cmd := exec.CommandContext(ctx, s.Program, s.arguments()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	cmd.Stderr = io.MultiWriter(log, said)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}

	s.mu.Lock()
	s.stale = false
	err = cmd.Start()
	if err == nil {
		s.process = cmd.Process
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start dnsmasq: %w", err)
	}
	err = cmd.Wait()
	s.mu.Lock()
	s.process, s.serving = nil, false
	s.mu.Unlock()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("dnsmasq ended with %w; it said: %s", err, said.last())
}

// answers waits until dnsmasq answers a query.
func (s *Server) answers(ctx context.Context) error {
	resolver := s.Plan.Lookup()
	for {
		query, cancel := context.WithTimeout(ctx, time.Second)
		_, err := resolver.LookupNetIP(query, "ip4", vpc.EndpointName+".")
		cancel()
		if err == nil {
			return nil
		}
		if err := retry.Wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
