package main

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/eks"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	frontAuthority = "eks-api-ca"
	frontServer    = "eks-api"
	// frontLifetime is short enough that a renewal is nothing unusual; the last third of it is
	// for a service that is stopped.
	frontLifetime = 90 * 24 * time.Hour

	// What one source address may ask of the EKS API, and have STS asked, in a second and at
	// once; of what STS is asked, each access key that is known has as much. A thousand nodes behind one address start within a minute or so.
	callRate, callBurst   = 50, 500
	tokenRate, tokenBurst = 10, 100
	// The same for one cluster's API server, which remembers answers itself. AWS allows
	// an account some hundred calls of GetCallerIdentity a second.
	reviewRate, reviewBurst = 100, 1000

	// apiTokenTimeout is how long a caller waits for STS. A review can wait longer: the API
	// server that asks gives it 30 s.
	apiTokenTimeout    = 5 * time.Second
	reviewTokenTimeout = 10 * time.Second
)

// front is what stands between callers and the EKS API: TLS, who they are, what they may do,
// and the record of it.
type front struct {
	settings
	keyDir string
	policy *iam.PolicyFile
	audit  *audit.File
	calls  *audit.Calls
}

func openFront(s settings, log *zap.Logger) (*front, error) {
	f := &front{settings: s, keyDir: filepath.Join(s.stateDir, "pki")}
	if err := f.renewKeys(time.Now()); err != nil {
		return nil, err
	}
	var err error
	if f.policy, err = iam.OpenPolicy(s.policy, log.Named("policy"), nil); err != nil {
		return nil, err
	}
	log = log.Named("audit")
	if f.audit, err = audit.Open(filepath.Join(s.stateDir, auditFile), log); err != nil {
		return nil, err
	}
	if f.calls, err = audit.OpenCalls(f.audit, filepath.Join(s.stateDir, auditRefusedFile), log); err != nil {
		return nil, errors.Join(err, f.audit.Close())
	}
	return f, nil
}

func (f *front) close() error { return errors.Join(f.calls.Close(), f.audit.Close()) }

// ownCertificate tells whether the service signs for itself.
func (f *front) ownCertificate() bool { return f.tlsCert == "" && !f.insecureHTTP }

// authorityFile is what clients have to trust; empty: what they trust already.
func (f *front) authorityFile() string {
	if !f.ownCertificate() {
		return ""
	}
	return filepath.Join(f.keyDir, frontAuthority+".crt")
}

// authority is what clients have to trust, for the log: who cannot enter the machine finds it there.
func (f *front) authority() zap.Field {
	data, err := os.ReadFile(f.authorityFile())
	if err != nil {
		return zap.Skip() // it is nobody's own
	}
	return zap.ByteString("ca", data)
}

func (f *front) renewKeys(now time.Time) error {
	if !f.ownCertificate() {
		return nil
	}
	_, err := pki.Ensure(f.keyDir, pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: frontAuthority, CommonName: "ovenbird-eks-api-ca"}},
		Leaves:      []pki.Leaf{f.leaf()},
	}, now)
	return err
}

// leaf is for the host of --listen, or where that is any address the advertised one, and for
// every --tls-name.
func (f *front) leaf() pki.Leaf {
	leaf := pki.Leaf{Name: frontServer, Authority: frontAuthority, CommonName: frontServer, Usage: pki.Server, Lifetime: frontLifetime}
	host, _, _ := net.SplitHostPort(f.listen) // checked with the flags
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = f.address.String()
	}
	for _, name := range append([]string{host}, f.tlsNames...) {
		if addr, err := netip.ParseAddr(name); err == nil {
			leaf.IPs = append(leaf.IPs, addr.Unmap())
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	return leaf
}

// tls reads the certificate for every connection, so that a renewed one needs no restart.
// It is nil for plain HTTP.
func (f *front) tls() *tls.Config {
	if f.insecureHTTP {
		return nil
	}
	cert, key := f.tlsCert, f.tlsKey
	if f.ownCertificate() {
		cert = filepath.Join(f.keyDir, frontServer+".pem")
		key = cert
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		},
	}
}

func (f *front) url() string {
	if f.insecureHTTP {
		return "http://" + f.listen
	}
	return "https://" + f.listen
}

// api is the EKS API behind all this. principals tell whose nodes may find their cluster.
func (f *front) api(clusters *registry.Registry, principals iam.Principals, clouds clouds, versions []string, log *zap.Logger) (http.Handler, error) {
	return eks.New(eks.Options{
		Registry: clusters, EC2: clouds.ec2, Region: f.region, AccountID: f.accountID, Versions: versions, Patch: f.patch, PodCIDR: f.podCIDR, Log: log.Named("eks"),
		Callers: iam.Callers{
			Keys:   f.keys,
			Tokens: iam.NewCachedTokens(clouds.sts, iam.NewLimiter(tokenRate, tokenBurst, nil), apiTokenTimeout, nil),
			Limit:  iam.NewLimiter(callRate, callBurst, nil),
			Region: f.region, Account: f.accountID, MaxBody: eks.MaxBody,
		},
		Access: iam.Authorizer{Policy: f.policy, Entries: principals},
		Audit:  f.calls,
	})
}

// reviewTokens verifies the tokens that clusters' API servers ask about.
func reviewTokens(sts ststoken.Verifier) iam.Tokens {
	return iam.NewCachedTokens(sts, iam.NewLimiter(reviewRate, reviewBurst, nil), reviewTokenTimeout, nil)
}
