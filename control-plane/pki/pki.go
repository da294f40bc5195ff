// Package pki makes the keys and certificates of a control plane and keeps them fresh.
//
// A directory holds what a Spec asks for:
//
//	NAME.crt, NAME.key   an authority: its certificate alone, so that it can be handed out
//	NAME.pem             a leaf: certificate and key in one file, so that a renewal is one rename
//	NAME.key, NAME.pub   a signing key pair
//
// Ensure is safe to run at any time and after being killed at any point: it keeps what is
// good, makes what is missing and renews what nears its end. An authority is renewed with
// the same key and name: whoever trusts the old certificate accepts what the renewed one
// signs, and the other way round, so that there are two years to pass it on. Ensure never
// gives an authority another key, because everything that trusts it would have to learn of
// that first. Private keys are ECDSA P-256, stored with mode 0600 and never logged.
package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"
)

// Spec is what a directory should hold.
type Spec struct {
	Authorities []AuthorityRequest
	Leaves      []Leaf
	SigningKeys []string

	// External are authorities that sign leaves of this directory but live elsewhere.
	External map[string]*Authority
}

// AuthorityRequest asks for a self-signed authority.
type AuthorityRequest struct {
	Name       string // of its files
	CommonName string
}

// Usage says which side of a TLS connection a leaf is for.
type Usage int

// Usages; a leaf may have both.
const (
	Client Usage = 1 << iota
	Server
)

// Leaf asks for a certificate signed by an authority.
type Leaf struct {
	Name          string // of its file
	Authority     string
	CommonName    string
	Organizations []string
	DNSNames      []string
	IPs           []netip.Addr
	Usage         Usage
	Lifetime      time.Duration
}

// NodeLifetime is how long a node's certificate holds, which the cluster signs: as long as a
// stolen one is of use, and as the nodes of a cluster can do without its control plane.
const NodeLifetime = 24 * time.Hour

// Authority signs leaves.
type Authority struct {
	Certificate *x509.Certificate
	PEM         []byte // the certificate
	key         *ecdsa.PrivateKey
}

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// authorityOverlap is for how long an authority and its renewal are both valid: longer
	// than any leaf lives, so that no leaf outlives the certificate that it was signed under.
	authorityOverlap = authorityLifetime / 5
	// backdate keeps a fresh certificate valid for a peer whose clock is behind.
	backdate = 5 * time.Minute
)

// Stale says why have no longer serves as want, or "" when it does. A leaf is renewed in
// the last third of its life, which leaves a stopped service time to come back.
func Stale(have *x509.Certificate, want Leaf, issuer *x509.Certificate, now time.Time) string {
	switch {
	case have.CheckSignatureFrom(issuer) != nil:
		return "signed by another authority"
	case now.Before(have.NotBefore):
		return "not valid yet"
	case now.After(have.NotAfter.Add(-want.Lifetime / 3)):
		return "near its end"
	case have.NotAfter.Sub(have.NotBefore) > want.Lifetime+backdate:
		return "longer-lived than asked for"
	case have.Subject.CommonName != want.CommonName, !sameSet(have.Subject.Organization, want.Organizations):
		return "issued to another subject"
	case !sameSet(have.DNSNames, want.DNSNames), !sameSet(addresses(have), want.IPs):
		return "issued to other addresses"
	case !sameSet(have.ExtKeyUsage, want.Usage.extended()):
		return "issued for another use"
	}
	return ""
}

func (u Usage) extended() []x509.ExtKeyUsage {
	var usages []x509.ExtKeyUsage
	if u&Client != 0 {
		usages = append(usages, x509.ExtKeyUsageClientAuth)
	}
	if u&Server != 0 {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	return usages
}

func addresses(cert *x509.Certificate) []netip.Addr {
	var addrs []netip.Addr
	for _, ip := range cert.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func sameSet[T comparable](a, b []T) bool {
	return !slices.ContainsFunc(a, func(v T) bool { return !slices.Contains(b, v) }) &&
		!slices.ContainsFunc(b, func(v T) bool { return !slices.Contains(a, v) })
}
