// Package imds is the instance metadata service, version 2 only: a session token comes
// first, and whatever arrives without one is refused. Each caller is told about the
// instance that has its source address, and about no other. The answer to a caller more
// than one hop away never arrives (Listen).
package imds

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Headers of the protocol.
const (
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenHeader = "X-Aws-Ec2-Metadata-Token" //nolint:gosec // a header's name
)

// maxTTL is the longest life of a token: six hours.
const maxTTL = 21600

// versions are the API versions that are served, all with the same content.
var versions = [...]string{"1.0", "2009-04-04", "2011-01-01", "2012-01-12", "2014-11-05", "2016-09-02", "2018-09-24", "2019-10-01", "2021-03-23", "2021-07-15", "2022-09-24", "latest"}

// Instances finds the instance that has an address.
type Instances interface {
	ByAddress(netip.Addr) (fleet.Instance, bool)
}

// Service answers at 169.254.169.254. It implements http.Handler.
type Service struct {
	Plan      vpc.Plan
	Instances Instances
	Roles     identity.Roles
	// Role is the name of an instance profile's role, empty when there is none any more; nil:
	// every role has the name of its profile.
	Role   func(profile string) string
	Secret []byte // tokens are derived from it and outlive a restart
	Now    func() time.Time
	Logger *zap.Logger
}

// Listen opens the service's port. Packets leave with a TTL of one, the handshake's
// included: they reach the instance itself, and no container behind it. The option is on
// the listening socket, which every connection inherits it from, so that retransmissions
// have it too.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		if err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1)
		}); err != nil {
			return err
		}
		return set
	}}
	listener, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("open the metadata service's port: %w", err)
	}
	return listener, nil
}

// ServeHTTP implements http.Handler.
func (s Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	source, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		refuse(w, http.StatusNotFound)
		return
	}
	instance, ok := s.Instances.ByAddress(source.Addr().Unmap())
	if !ok {
		s.Logger.Info("a stranger asked for metadata", zap.Stringer("address", source.Addr()))
		refuse(w, http.StatusNotFound)
		return
	}
	path := r.URL.Path
	version, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && path == "/latest/api/token":
		s.issue(w, r, instance)
	case r.Method == http.MethodPut:
		refuse(w, http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "OPTIONS, GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed)
	case !s.admitted(w, r, instance):
		refuse(w, http.StatusUnauthorized)
	case path == "/":
		answer(w, strings.Join(versions[:], "\n"))
	case !slices.Contains(versions[:], version):
		refuse(w, http.StatusNotFound)
	default:
		s.lookUp(w, instance, rest)
	}
}

// issue answers a request for a token.
func (s Service) issue(w http.ResponseWriter, r *http.Request, instance fleet.Instance) {
	// A request that came through a proxy is not the instance's own.
	if r.Header.Get("X-Forwarded-For") != "" {
		refuse(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTTL || len(r.Header[ttlHeader]) != 1 {
		refuse(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	answer(w, s.token(instance.ID, s.Now().Add(time.Duration(ttl)*time.Second)))
}

// admitted checks the request's token and tells the caller how long it still lasts.
func (s Service) admitted(w http.ResponseWriter, r *http.Request, instance fleet.Instance) bool {
	tokens := r.Header[tokenHeader]
	if len(tokens) != 1 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(tokens[0], "="))
	if err != nil || len(raw) != 8+sha256.Size {
		return false
	}
	ends := time.Unix(int64(binary.BigEndian.Uint64(raw)), 0) //nolint:gosec // any bits make some time
	left := ends.Sub(s.Now())
	if left <= 0 || left > maxTTL*time.Second || !hmac.Equal([]byte(s.token(instance.ID, ends)), []byte(tokens[0])) {
		return false
	}
	w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	return true
}

// token is the end of its validity and a proof that the lab gave it to the instance.
func (s Service) token(instance string, ends time.Time) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(ends.Unix())) //nolint:gosec // and back
	h := hmac.New(sha256.New, s.Secret)
	fmt.Fprintf(h, "metadata token\x00%s\x00%d", instance, ends.Unix())
	return base64.URLEncoding.EncodeToString(h.Sum(raw))
}

// lookUp finds path, which begins after the version, and answers a leaf's value or a
// directory's listing.
func (s Service) lookUp(w http.ResponseWriter, instance fleet.Instance, path string) {
	if path == "user-data" {
		if len(instance.UserData) == 0 {
			refuse(w, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(instance.UserData)
		return
	}
	value, ok := s.tree(instance).find(path)
	if !ok {
		refuse(w, http.StatusNotFound)
		return
	}
	answer(w, value)
}

func answer(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write([]byte(text))
}

// refuse sends the page that EC2 sends.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>%[1]d - %[2]s</title>
 </head>
 <body>
  <h1>%[1]d - %[2]s</h1>
 </body>
</html>
`, status, http.StatusText(status))
}
