package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"
)

// Issue signs a certificate for a fresh key and returns both as PEM.
func (a *Authority) Issue(leaf Leaf, now time.Time) (certificate, key []byte, err error) {
	private, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		DNSNames:              leaf.DNSNames,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(leaf.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           leaf.Usage.extended(),
		BasicConstraintsValid: true,
	}
	for _, addr := range leaf.IPs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate %s: %w", leaf.Name, err)
	}
	key, err = encodeKey(private)
	if err != nil {
		return nil, nil, err
	}
	return encodeCertificate(der), key, nil
}

func newAuthority(request AuthorityRequest, key *ecdsa.PrivateKey, now time.Time) (*Authority, error) {
	return selfSigned(request.CommonName, nil, key, now)
}

// renewed is the authority with new dates. The key's identifier stays as it is written in
// leaves, whatever way of computing it is the usual one by now.
func (a *Authority) renewed(now time.Time) (*Authority, error) {
	return selfSigned(a.Certificate.Subject.CommonName, a.Certificate.SubjectKeyId, a.key, now)
}

// selfSigned makes an authority. keyID nil: derived from the key.
func selfSigned(commonName string, keyID []byte, key *ecdsa.PrivateKey, now time.Time) (*Authority, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		SubjectKeyId:          keyID,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign authority %s: %w", commonName, err)
	}
	return parseAuthority(encodeCertificate(der), key)
}

// parseAuthority joins a certificate and its key, and refuses a pair that does not match.
func parseAuthority(certPEM []byte, key *ecdsa.PrivateKey) (*Authority, error) {
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("certificate and key of %q do not belong together", cert.Subject.CommonName)
	}
	return &Authority{Certificate: cert, PEM: certPEM, key: key}, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// encodeKey writes SEC 1, which every component reads for certificates and for service
// account keys alike.
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func encodePublicKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// block returns the first PEM block of the given type.
func block(data []byte, kind string) ([]byte, error) {
	for {
		var found *pem.Block
		found, data = pem.Decode(data)
		if found == nil {
			return nil, fmt.Errorf("no %s in it", kind)
		}
		if found.Type == kind {
			return found.Bytes, nil
		}
	}
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	der, err := block(data, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	der, err := block(data, "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(der)
}

// join is the content of a leaf's file.
func join(certificate, key []byte) []byte { return bytes.Join([][]byte{certificate, key}, nil) }
