package iam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// How a caller of the EKS API proves who it is.
const (
	ProofSignature = "sigv4"
	ProofBearer    = "bearer"
)

// Refusals of a bearer token.
var (
	// ErrPlainHTTP: whoever listens could use the token for the rest of its life.
	ErrPlainHTTP = errors.New("a bearer token came over plain HTTP")
	// ErrNoBearer: this service has no STS to ask.
	ErrNoBearer = errors.New("this service takes no bearer tokens")
)

// Caller is who makes a call of the EKS API.
type Caller struct {
	Principal
	Proof string
}

// Callers tells who makes a call of the EKS API. There are two proofs: a SigV4 signature by
// a key that the service holds, and a token of package ststoken for the API's audience, for
// which the service holds nobody's secret.
type Callers struct {
	Keys    sigv4.Keys // nil: no signature is known
	Tokens  Tokens     // nil: no token is taken
	Limit   *Limiter   // of calls, for each source address
	Region  string
	Account string           // that the clusters are in
	MaxBody int64            // bytes
	Now     func() time.Time // nil: time.Now
}

// Authenticate returns the caller of r, whose body it reads, bounds and puts back. Refusals
// are *sigv4.Error, ststoken.ErrInvalid, ErrPlainHTTP, ErrNoBearer and ErrThrottled;
// ErrUnavailable means that it could not be told.
func (c Callers) Authenticate(r *http.Request) (Caller, error) {
	source := Source(r)
	if err := c.Limit.Allow(source); err != nil {
		return Caller{}, err
	}
	token, ok := bearerToken(r)
	if !ok {
		return c.signer(r)
	}
	if r.TLS == nil {
		return Caller{}, ErrPlainHTTP
	}
	if c.Tokens == nil {
		return Caller{}, ErrNoBearer
	}
	if err := c.boundBody(r); err != nil {
		return Caller{}, err
	}
	identity, err := c.Tokens.Verify(WithSource(r.Context(), source), token, ststoken.APIAudience(c.Region, c.Account))
	if err != nil {
		return Caller{}, fmt.Errorf("bearer token: %w", err)
	}
	return Caller{NewPrincipal(identity), ProofBearer}, nil
}

// bearerToken reads the one Authorization header there is. HTTP does not care about the case
// of the scheme.
func bearerToken(r *http.Request) (token string, ok bool) {
	authorization := r.Header["Authorization"]
	if len(authorization) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

func (c Callers) signer(r *http.Request) (Caller, error) {
	keys := c.Keys
	if keys == nil {
		keys = staticKeys{}
	}
	verifier := sigv4.Verifier{Keys: keys, Region: c.Region, Service: "eks", Now: c.Now, MaxBody: c.MaxBody}
	credential, err := verifier.Verify(r)
	if err != nil {
		return Caller{}, err
	}
	return Caller{NewPrincipal(ststoken.Identity{ARN: credential.ARN}), ProofSignature}, nil
}

func (c Callers) boundBody(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, c.MaxBody+1))
	if err != nil {
		return fmt.Errorf("read request body: %w", err)
	}
	if int64(len(body)) > c.MaxBody {
		return &sigv4.Error{Code: sigv4.CodeTooLarge, Message: fmt.Sprintf("Request body is larger than %d bytes", c.MaxBody)}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// Source is the address that a request comes from, without its port. Of an IPv6 address
// only the network counts, as one host may have all the others in it.
func Source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if addr = addr.Unmap(); addr.Is6() {
		if network, err := addr.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}
