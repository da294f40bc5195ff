// Package proxy is the way from the host into the lab: an HTTP proxy that knows CONNECT
// only. It resolves names as an instance does and leads to addresses of the VPCs, never to
// loopback services, the metadata service or anything outside of the lab.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Limits of one tunnel's start.
const (
	dialTimeout   = 10 * time.Second
	lookupTimeout = 5 * time.Second
)

// Resolver looks names up; net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Proxy implements http.Handler.
type Proxy struct {
	Allowed  func(netip.Addr) bool // whether it may lead to an address
	Resolver Resolver
	Logger   *zap.Logger
}

// ServeHTTP implements http.Handler.
func (p Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		http.Error(w, "This proxy leads into the lab with CONNECT only; use https.", http.StatusMethodNotAllowed)
		return
	}
	address, status, err := p.resolve(r.Context(), r.Host)
	if err != nil {
		p.Logger.Info("refused a tunnel", zap.String("to", r.Host), zap.Error(err))
		http.Error(w, err.Error(), status)
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	inside, err := dialer.DialContext(r.Context(), "tcp4", address.String())
	if err != nil {
		http.Error(w, fmt.Sprintf("connect to %s in the lab: %v", r.Host, err), http.StatusBadGateway)
		return
	}
	defer func() { _ = inside.Close() }()
	outside, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "cannot take the connection over", http.StatusInternalServerError)
		return
	}
	defer func() { _ = outside.Close() }()
	if err := outside.SetDeadline(time.Time{}); err != nil {
		return
	}
	if _, err := io.WriteString(outside, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// What the client sent right behind its request is in the buffer. The rest the kernel
	// passes on by itself, as both sides are TCP.
	if _, err := io.CopyN(inside, buffered, int64(buffered.Reader.Buffered())); err != nil {
		return
	}
	join(inside, outside)
}

// resolve finds the address behind host:port, if it is one to lead to.
func (p Proxy) resolve(ctx context.Context, target string) (address netip.AddrPort, status int, err error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return address, http.StatusBadRequest, fmt.Errorf("%q is not a host and a port", target)
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return address, http.StatusBadRequest, fmt.Errorf("%q is not a port", port)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		found, err := p.Resolver.LookupNetIP(ctx, "ip4", host)
		var dns *net.DNSError
		if errors.As(err, &dns) || err == nil && len(found) == 0 {
			return address, http.StatusBadGateway, fmt.Errorf("no %q in the lab, and its proxy leads nowhere else", host)
		}
		if err != nil {
			return address, http.StatusBadGateway, fmt.Errorf("look %q up in the lab: %w", host, err)
		}
		addr = found[0]
	}
	addr = addr.Unmap()
	if !p.Allowed(addr) {
		return address, http.StatusForbidden, fmt.Errorf("%s is in none of the lab's VPCs", target)
	}
	return netip.AddrPortFrom(addr, uint16(number)), 0, nil //nolint:gosec // LookupPort bounds it
}

// join copies both ways until both sides have said all, or one fails.
func join(inside, outside net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { copyAndEnd(inside, outside) })
	both.Go(func() { copyAndEnd(outside, inside) })
	both.Wait()
}

// copyAndEnd passes the end of the stream on, so that the other direction may go on. After
// an error neither may.
func copyAndEnd(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok {
		_ = to.Close()
		return
	}
	_ = half.CloseWrite()
}
