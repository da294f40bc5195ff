package nodes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
)

const (
	// NIST SP 800-57 ends RSA below 2048 bits; above 4096, each handshake costs API server
	// and kubelet what no security is gained for.
	minRSABits, maxRSABits = 2048, 4096
	// rsaExponent is the exponent that every maker of RSA keys uses. A smaller one helps
	// who forges signatures; a greater one only costs.
	rsaExponent = 65537
)

// checkKey demands a key of a kind that kubelet and its clients all take, and that is worth
// a certificate. Ed25519 is not one: FIPS builds of clients refuse it, and no kubelet makes it.
func checkKey(csr *x509.CertificateRequest) error {
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return refuse(ClassKey, "the key is an ECDSA key on the curve %s, not on P-256 or P-384", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return refuse(ClassKey, "the key is an RSA key of %d bits, not of %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E != rsaExponent {
			return refuse(ClassKey, "the key is an RSA key with the exponent %d, not %d", key.E, rsaExponent)
		}
		return nil
	}
	return refuse(ClassKey, "the key is %s, neither ECDSA nor RSA", csr.PublicKeyAlgorithm)
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Tags of the names in a subject alternative name: RFC 5280, 4.2.1.6.
const (
	tagDNSName   = 2
	tagIPAddress = 7
)

// checkExtensions admits one extension, subject alternative names, with DNS names and
// addresses alone. crypto/x509 passes over names of kinds that it does not know.
func checkExtensions(csr *x509.CertificateRequest) error {
	if len(csr.Extensions) > 1 {
		return refuse(ClassUsage, "the request has extensions besides names")
	}
	for _, extension := range csr.Extensions {
		if !extension.Id.Equal(subjectAltName) {
			return refuse(ClassUsage, "the request has the extension %s", extension.Id)
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return refuse(ClassHosts, "the names in the request do not decode")
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || name.Tag != tagDNSName && name.Tag != tagIPAddress {
				return refuse(ClassHosts, "the request names something that is neither a DNS name nor an address")
			}
		}
	}
	return nil
}
