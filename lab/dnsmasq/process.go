package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/lab/retry"
)

// process is one dnsmasq. The server's mu guards what is below it.
type process struct {
	*Server
	leases    netip.Prefix // whose addresses it leases; none if it is a resolver
	arguments []string
	end       context.CancelFunc
	up        chan struct{} // closed when it serves for the first time
	done      chan struct{} // closed when it is kept running no more
	failed    chan error    // holds the last failure

	handle  *os.Process // nil while none runs
	serving bool        // before that, a SIGHUP might end it
	stale   bool        // the lists have changed since it was started or read them last
	renewed bool        // it was ended to be started anew
	// holders are the MAC addresses that it may have leased addresses to.
	holders map[netip.Addr]string
}

// reload makes the process read its lists again if it has to and can. dnsmasq keeps a lease
// until it ends and gives the address to nobody else before, whatever its lists say by then;
// what is in no list is forgotten only by a process that starts anew. The caller holds mu.
func (p *process) reload() error {
	if p.handle == nil || !p.serving || !p.stale {
		return nil
	}
	p.stale = false
	signal := syscall.SIGHUP
	if p.taken() {
		signal, p.renewed, p.serving = syscall.SIGTERM, true, false
	}
	p.note()
	if err := p.handle.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("tell dnsmasq to read its lists again: %w", err)
	}
	return nil
}

// taken tells whether an address has gone to another host than the process may have leased
// it to.
func (p *process) taken() bool {
	for _, h := range p.hosts {
		if mac, known := p.holders[h.Address]; known && mac != h.MAC.String() {
			return true
		}
	}
	return false
}

// note remembers who may have a lease.
func (p *process) note() {
	for _, h := range p.hosts {
		if p.leases.Contains(h.Address) {
			p.holders[h.Address] = h.MAC.String()
		}
	}
}

// awaitUp returns when the process serves, and with an error when it fails after the limit.
func (p *process) awaitUp(ctx context.Context, limit <-chan struct{}) error {
	var failed <-chan error
	for {
		select {
		case <-p.up:
			return nil
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-limit:
			limit = nil
			select {
			case <-p.failed: //nolint:errcheck // an earlier one; it has been tried again since
			default:
			}
			failed = p.failed
		}
	}
}

// keep keeps the process running until the context ends.
func (p *process) keep(ctx context.Context) {
	// PDEATHSIG goes off when the thread that started the child ends, so that thread has
	// to live as long as this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	backoff := retry.Backoff{First: 100 * time.Millisecond, Limit: 5 * time.Second}
	for {
		started := time.Now()
		renewed, err := p.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if renewed {
			continue
		}
		select {
		case <-p.failed: //nolint:errcheck // nobody has looked, and a newer one takes its place
		default:
		}
		p.failed <- err
		if time.Since(started) > time.Minute {
			backoff.Reset()
		}
		wait := backoff.Next()
		p.Logger.Warn("dnsmasq ended; starting it again", zap.Error(err), zap.Duration("after", wait))
		if retry.Wait(ctx, wait) != nil {
			return
		}
	}
}

// once runs dnsmasq until it ends, and tells whether that was to start it anew.
func (p *process) once(ctx context.Context) (renewed bool, err error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return false, fmt.Errorf("open dnsmasq's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	said := &tail{started: p.serve}
	cmd := exec.CommandContext(ctx, p.Program, p.arguments...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	cmd.Stderr = io.MultiWriter(log, said)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}

	p.mu.Lock()
	p.stale, p.renewed, p.holders = false, false, map[netip.Addr]string{}
	p.note()
	err = cmd.Start()
	if err == nil {
		p.handle = cmd.Process
	}
	p.mu.Unlock()
	if err != nil {
		return false, fmt.Errorf("start dnsmasq: %w", err)
	}
	err = cmd.Wait()
	p.mu.Lock()
	p.handle, p.serving, renewed = nil, false, p.renewed
	p.mu.Unlock()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return renewed, fmt.Errorf("dnsmasq ended with %w; it said: %s", err, said.last())
}

// serve takes note that the process has opened its sockets and serves.
func (p *process) serve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handle == nil {
		return
	}
	p.serving = true
	select {
	case <-p.up:
	default:
		close(p.up)
	}
	if err := p.reload(); err != nil {
		p.Logger.Warn("dnsmasq may not know every instance", zap.Error(err))
	}
}
