package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"
)

const (
	directoryMode = 0o700
	fileMode      = 0o600
)

// Ensure makes dir hold what spec asks for. It returns the names of what it made or
// renewed, sorted. Files are made side by side: what takes time is making each durable.
func Ensure(dir string, spec Spec, now time.Time) ([]string, error) {
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return nil, fmt.Errorf("make key directory: %w", err)
	}
	var changed names
	authorities := make([]*Authority, len(spec.Authorities))

	var roots errgroup.Group
	for i, request := range spec.Authorities {
		roots.Go(func() (err error) {
			var made bool
			authorities[i], made, err = ensureAuthority(dir, request, now)
			return changed.add(request.Name, made, err)
		})
	}
	for _, name := range spec.SigningKeys {
		roots.Go(func() error {
			made, err := ensureSigningKey(dir, name)
			return changed.add(name, made, err)
		})
	}
	if err := roots.Wait(); err != nil {
		return nil, err
	}

	signers := map[string]*Authority{}
	maps.Copy(signers, spec.External)
	for i, request := range spec.Authorities {
		signers[request.Name] = authorities[i]
	}
	var leaves errgroup.Group
	for _, leaf := range spec.Leaves {
		leaves.Go(func() error {
			made, err := ensureLeaf(dir, leaf, signers[leaf.Authority], now)
			return changed.add(leaf.Name, made, err)
		})
	}
	if err := leaves.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(changed.list)
	return changed.list, nil
}

// names collects what several goroutines made.
type names struct {
	mu   sync.Mutex
	list []string
}

func (n *names) add(name string, made bool, err error) error {
	if made {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.list = append(n.list, name)
	}
	return err
}

// LoadAuthority reads the authority that Ensure made in dir.
func LoadAuthority(dir, name string) (*Authority, error) {
	key, err := readKey(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+".crt")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	authority, err := parseAuthority(data, key)
	if err != nil {
		return nil, fmt.Errorf("read authority %s: %w", path, err)
	}
	return authority, nil
}

// Fingerprint identifies the content of files. It changes when an authority among them is
// renewed.
func Fingerprint(paths ...string) (string, error) {
	hash := sha256.New()
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read authority: %w", err)
		}
		sum := sha256.Sum256(data)
		hash.Write(sum[:])
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// ensureAuthority writes the key before the certificate: a certificate without its key is
// damage, a key without its certificate is an interrupted start.
func ensureAuthority(dir string, request AuthorityRequest, now time.Time) (*Authority, bool, error) {
	certPath := filepath.Join(dir, request.Name+".crt")
	if exists(certPath) {
		authority, err := LoadAuthority(dir, request.Name)
		if err != nil || now.Before(authority.Certificate.NotAfter.Add(-authorityOverlap)) {
			return authority, false, err
		}
		if authority, err = authority.renewed(now); err != nil {
			return nil, false, err
		}
		return authority, true, write(certPath, authority.PEM)
	}
	key, err := keepOrMakeKey(filepath.Join(dir, request.Name+".key"))
	if err != nil {
		return nil, false, err
	}
	authority, err := newAuthority(request, key, now)
	if err != nil {
		return nil, false, err
	}
	if err := write(certPath, authority.PEM); err != nil {
		return nil, false, err
	}
	return authority, true, nil
}

func ensureSigningKey(dir, name string) (bool, error) {
	publicPath := filepath.Join(dir, name+".pub")
	keyPath := filepath.Join(dir, name+".key")
	if exists(publicPath) && exists(keyPath) {
		return false, nil
	}
	key, err := keepOrMakeKey(keyPath)
	if err != nil {
		return false, err
	}
	public, err := encodePublicKey(key)
	if err != nil {
		return false, err
	}
	return true, write(publicPath, public)
}

func ensureLeaf(dir string, leaf Leaf, signer *Authority, now time.Time) (bool, error) {
	if signer == nil {
		return false, fmt.Errorf("certificate %s asks for authority %q, which is not there", leaf.Name, leaf.Authority)
	}
	if leaf.CommonName == signer.Certificate.Subject.CommonName && len(leaf.Organizations) == 0 {
		// OpenSSL takes a certificate whose subject is its issuer for a self-signed one.
		return false, fmt.Errorf("certificate %s has the subject of its authority %q", leaf.Name, leaf.CommonName)
	}
	path := filepath.Join(dir, leaf.Name+".pem")
	// What cannot be read as a pair is made again, like what is missing.
	if have, err := readLeaf(path); err == nil && Stale(have, leaf, signer.Certificate, now) == "" {
		return false, nil
	}
	certificate, key, err := signer.Issue(leaf, now)
	if err != nil {
		return false, err
	}
	return true, write(path, join(certificate, key))
}

// EnsureSecret returns the 32 random bytes kept in path, base64-encoded, and makes them
// the first time.
func EnsureSecret(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		return string(data), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read secret: %w", err)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("generate secret: %w", err)
	}
	encoded := base64.StdEncoding.EncodeToString(secret)
	return encoded, write(path, []byte(encoded))
}

func readLeaf(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(data)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("certificate and key do not belong together")
	}
	return cert, nil
}

func keepOrMakeKey(path string) (*ecdsa.PrivateKey, error) {
	if exists(path) {
		return readKey(path)
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, write(path, data)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	return key, nil
}

// ReadPublicKey reads NAME.pub of a signing key pair.
func ReadPublicKey(path string) (*ecdsa.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	der, err := block(data, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read public key %s: it is a %T", path, parsed)
	}
	return key, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func write(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, fileMode, renameio.WithStaticPermissions(fileMode)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
