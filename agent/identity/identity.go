// Package identity is who the node is to its cluster: a private key that is made here and
// never leaves, the certificate for it, and the kubeconfig that points kubelet at both. A
// certificate that still holds is used again, so a restart asks nobody for anything.
//
// Everything on disk is written whole and in an order that makes any prefix of it safe:
// the key before the request for it, the certificate with its key in one file, then the
// link to that file, and the kubeconfig, which says which cluster it all belongs to, last.
package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const (
	pkiDir = "/var/lib/kubelet/pki"
	// currentPath is a link to a kubelet-client-<stamp>.pem; kubelet turns it to a new
	// one when it renews the certificate.
	currentPath = pkiDir + "/kubelet-client-current.pem"
	// keyPath holds the key while its certificate is being asked for.
	keyPath = pkiDir + "/kubelet-client.key.tmp"

	nodesGroup = "system:nodes"
	// renewalMargin is how long a certificate must hold to be used again: enough for
	// kubelet to renew it.
	renewalMargin = 10 * time.Minute
)

// Store is the node's identity on disk.
type Store struct {
	Root     rootfs.Root
	NodeName string
	Cluster  discover.Cluster
	Now      func() time.Time
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Certificate, Key []byte }

// Request is a request for a certificate.
type Request struct {
	Name string // names the content
	PEM  []byte
	key  *ecdsa.PrivateKey
}

// Current returns the certificate on disk if it is this node's, of this cluster, and
// holds long enough; else the error says why it cannot be used.
func (s Store) Current() (Pair, error) {
	if err := s.ofThisCluster(); err != nil {
		return Pair{}, err
	}
	data, err := os.ReadFile(s.Root.Join(currentPath))
	if err != nil {
		return Pair{}, err
	}
	pair, err := split(data)
	if err != nil {
		return Pair{}, fmt.Errorf("read %s: %w", currentPath, err)
	}
	key, err := parseKey(pair.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("read %s: %w", currentPath, err)
	}
	if err := s.check(pair.Certificate, key); err != nil {
		return Pair{}, fmt.Errorf("read %s: %w", currentPath, err)
	}
	return pair, nil
}

// Request returns a request for a certificate of the node. Until Save or Discard it is
// always the same one, even if the process is killed between.
func (s Store) Request() (Request, error) {
	key, err := s.key()
	if err != nil {
		return Request{}, err
	}
	// Without a source of randomness the signature is RFC 6979's: the same key makes the
	// same request, byte for byte.
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: s.userName(), Organization: []string{nodesGroup}},
	}, key)
	if err != nil {
		return Request{}, fmt.Errorf("make a certificate request: %w", err)
	}
	digest := sha256.Sum256(der)
	return Request{
		Name: fmt.Sprintf("ovenbird-%s-%s", s.NodeName, hex.EncodeToString(digest[:8])),
		PEM:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		key:  key,
	}, nil
}

// Save keeps the certificate that request was answered with and points kubelet at it.
func (s Store) Save(request Request, certificate []byte) (Pair, error) {
	if err := s.check(certificate, request.key); err != nil {
		return Pair{}, fmt.Errorf("check the certificate for request %s: %w", request.Name, err)
	}
	key, err := encodeKey(request.key)
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{Certificate: append(bytes.TrimSpace(certificate), '\n'), Key: key}
	// The name is one that kubelet gives when it renews.
	name := "kubelet-client-" + s.Now().UTC().Format("2006-01-02-15-04-05") + ".pem"
	if err := s.Root.Apply(rootfs.File{Path: pkiDir + "/" + name, Mode: 0o600, Data: slices.Concat(pair.Certificate, pair.Key)}); err != nil {
		return Pair{}, err
	}
	if err := renameio.Symlink(name, s.Root.Join(currentPath)); err != nil {
		return Pair{}, fmt.Errorf("write %s: %w", currentPath, err)
	}
	if err := s.Root.Apply(Kubeconfig(s.Cluster)); err != nil {
		return Pair{}, err
	}
	return pair, s.Discard()
}

// Discard forgets the key of the request, so that the next one is another.
func (s Store) Discard() error { return s.Root.Apply(rootfs.File{Path: keyPath}) }

// Forget gives up the certificate on disk.
func (s Store) Forget() error { return s.Root.Apply(rootfs.File{Path: currentPath}) }

func (s Store) userName() string { return "system:node:" + s.NodeName }

// key returns the key of the request under way, a new one if there is none.
func (s Store) key() (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(s.Root.Join(keyPath))
	if err == nil {
		if key, err := parseKey(data); err == nil {
			return key, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the node's key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, s.Root.Apply(rootfs.File{Path: keyPath, Mode: 0o600, Data: encoded})
}

// check says what keeps certificate from being this node's, now, for key.
func (s Store) check(certificate []byte, key *ecdsa.PrivateKey) error {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("not a PEM certificate")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	switch public, ok := parsed.PublicKey.(*ecdsa.PublicKey); {
	case !ok || !public.Equal(&key.PublicKey):
		return errors.New("the certificate is for another key")
	case parsed.Subject.CommonName != s.userName() || !slices.Contains(parsed.Subject.Organization, nodesGroup):
		return fmt.Errorf("the certificate is for %s, not for %s", parsed.Subject, s.userName())
	case !slices.Contains(parsed.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return errors.New("the certificate is not for a client")
	case s.Now().Add(renewalMargin).After(parsed.NotAfter):
		return fmt.Errorf("the certificate ends %s", parsed.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, errors.New("no EC private key in it")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the node's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// split takes a file apart that holds certificates and their key.
func split(data []byte) (Pair, error) {
	var pair Pair
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			pair.Certificate = append(pair.Certificate, pem.EncodeToMemory(block)...)
		} else {
			pair.Key = append(pair.Key, pem.EncodeToMemory(block)...)
		}
	}
	if len(pair.Certificate) == 0 || len(pair.Key) == 0 {
		return Pair{}, fmt.Errorf("%s does not hold a certificate and a key", filepath.Base(currentPath))
	}
	return pair, nil
}
