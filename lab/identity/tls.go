package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// tlsLifetime is long because a lab is short-lived: nothing renews its certificates.
const tlsLifetime = 10 * 365 * 24 * time.Hour

// Endpoint is a server that gets a certificate: File is the base name of its two files.
type Endpoint struct {
	File    string
	Name    string
	Address netip.Addr
}

// EnsureTLS makes the lab's certificate authority and a certificate for each endpoint, as
// <dir>/<file>.crt and .key, and the authority's as caFile; unless all are there. The
// authority's own key is thrown away, so that nothing more can be signed by a certificate
// that people add to their trust stores.
func EnsureTLS(caFile, dir string, endpoints []Endpoint, now time.Time) error {
	if complete(caFile, dir, endpoints) {
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make the lab's certificates: %w", err)
	}
	authority := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Ovenbird"}, CommonName: fmt.Sprintf("Ovenbird lab %x", serial.Bytes()[:4])},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(tlsLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the lab's certificate authority: %w", err)
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return fmt.Errorf("make the lab's certificate authority: %w", err)
	}
	if authority, err = x509.ParseCertificate(authorityDER); err != nil {
		return fmt.Errorf("read the lab's certificate authority back: %w", err)
	}
	for i, e := range endpoints {
		if err := e.issue(dir, authority, authorityKey, int64(i), now); err != nil {
			return fmt.Errorf("make the certificate of %s: %w", e.Name, err)
		}
	}
	// Last: its presence says that the rest is there.
	if err := writePEM(caFile, "CERTIFICATE", authorityDER, 0o644); err != nil {
		return fmt.Errorf("write the lab's certificate authority: %w", err)
	}
	return nil
}

func complete(caFile, dir string, endpoints []Endpoint) bool {
	files := []string{caFile}
	for _, e := range endpoints {
		files = append(files, filepath.Join(dir, e.File+".crt"), filepath.Join(dir, e.File+".key"))
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}

func (e Endpoint) issue(dir string, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey, n int64, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Add(authority.SerialNumber, big.NewInt(n+1)),
		Subject:      pkix.Name{CommonName: e.Name},
		DNSNames:     []string{e.Name},
		IPAddresses:  []net.IP{e.Address.AsSlice()},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(tlsLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Required beside IsCA=false, or strict verifiers refuse the chain.
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, e.File+".key"), "PRIVATE KEY", keyDER, 0o600),
		writePEM(filepath.Join(dir, e.File+".crt"), "CERTIFICATE", der, 0o644),
	)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return err
	}
	return renameio.WriteFile(path, b.Bytes(), mode)
}
