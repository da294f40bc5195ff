package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Errors of Verify that a caller tells apart.
var (
	ErrNotSigned = errors.New("it was signed with another key, or changed after it was signed")
	ErrMalformed = errors.New("it is not a signature: want base64 of an ECDSA signature, as `cosign sign-blob` writes it")
)

// maxKey bounds key files.
const maxKey = 64 << 10

// ReadKey reads a private key that signs: an elliptic curve key on P-256 in PEM, as
// `openssl ecparam -name prime256v1 -genkey` and `openssl genpkey` write it. A file that
// others than its owner can read is refused: what is in it is no secret any more.
func ReadKey(file string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read the signing key: %s is not a file", file)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read the signing key: others can read %s, its mode is %o: chmod 600 it, and make a new key if anybody has", file, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("read the signing key %s: %w", file, err)
	}
	return key, nil
}

// parseKey reads PKCS#8 or SEC 1. No error of it repeats what is in the file.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("it holds no private key in PEM")
		}
		text = rest
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
			return nil, errors.New("it is encrypted: a bake asks nobody for a password, so give it a key without one")
		default: // such as the parameters that openssl writes before a key
			continue
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if err != nil || !ok || ec.Curve != elliptic.P256() {
			return nil, errors.New("it is not an elliptic curve key on P-256: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`")
		}
		return ec, nil
	}
}

// Sign signs content as `cosign sign-blob` does: base64 of an ASN.1 ECDSA signature of
// its SHA-256. The same content and key make the same signature (RFC 6979).
func Sign(key *ecdsa.PrivateKey, content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	// Without a source of randomness the nonce comes from key and content.
	signature, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return []byte(base64.StdEncoding.EncodeToString(signature)), nil
}

// ReadPublicKey reads what Verify needs, as `openssl pkey -pubout` writes it.
func ReadPublicKey(file string) (*ecdsa.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("read the public key: %s holds no public key in PEM; `openssl pkey -in KEY -pubout` writes one", file)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("read the public key: %s is not an elliptic curve key on P-256", file)
	}
	return key, nil
}

// Verify checks a signature that Sign or cosign has made.
func Verify(key *ecdsa.PublicKey, content, signature []byte) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(signature)))
	if err != nil || len(raw) == 0 {
		return ErrMalformed
	}
	sum := sha256.Sum256(content)
	if !ecdsa.VerifyASN1(key, sum[:], raw) {
		return ErrNotSigned
	}
	return nil
}
