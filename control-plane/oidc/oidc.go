// Package oidc publishes what an OpenID Connect relying party, such as AWS STS in
// AssumeRoleWithWebIdentity, needs to verify the service account tokens of clusters: for
// each issuer a discovery document and its public keys.
//
// It answers anybody, so it never shows more than these, and what it asks of the service
// does not grow with the number of requests.
package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// freshFor is how old an answer may be: keys change only when a cluster is replaced.
	freshFor = time.Minute
	// missAfter is how often requests for unknown issuers may have the issuers listed.
	missAfter = time.Second
	// listTimeout bounds one listing, whoever waits for it.
	listTimeout = 10 * time.Second
	// cacheControl lets relying parties keep an answer for as long as EKS's do.
	cacheControl = "public, max-age=300"
)

// Issuer is who signs a cluster's service account tokens.
type Issuer struct {
	URL  string // as NewURL made it
	Keys []*ecdsa.PublicKey
}

// NewURL returns an issuer that nobody has had, below https://host/id/. host may have a port.
func NewURL(host string) (string, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("choose an issuer: %w", err)
	}
	return "https://" + host + "/id/" + hex.EncodeToString(id), nil
}

// KeysURL is where an issuer's keys are published.
func KeysURL(issuer string) string { return issuer + "/keys" }

// discovery is the document of OpenID Connect Discovery 1.0, with what Kubernetes' own says.
type discovery struct {
	Issuer        string   `json:"issuer"`
	KeysURL       string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"` // required, and never called
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	Claims        []string `json:"claims_supported"`
}

// key is a public key as RFC 7517 and RFC 7518 write it.
type key struct {
	Type      string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// publish encodes a public key under the name that kube-apiserver gives it in tokens: the
// hash of its DER form.
func publish(public *ecdsa.PublicKey) (key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return key{}, fmt.Errorf("encode service account key: %w", err)
	}
	point, err := public.Bytes() // 4, x, y
	if err != nil {
		return key{}, fmt.Errorf("encode service account key: %w", err)
	}
	id, size, encode := sha256.Sum256(der), len(point)/2, base64.RawURLEncoding.EncodeToString
	return key{
		Type: "EC", Use: "sig", Algorithm: "ES256", ID: encode(id[:]),
		Curve: public.Params().Name, X: encode(point[1 : 1+size]), Y: encode(point[1+size:]),
	}, nil
}

// documents are what is published for one issuer.
type documents struct{ discovery, keys []byte }

func (i Issuer) documents() (documents, error) {
	set := struct {
		Keys []key `json:"keys"`
	}{[]key{}}
	for _, public := range i.Keys {
		published, err := publish(public)
		if err != nil {
			return documents{}, err
		}
		set.Keys = append(set.Keys, published)
	}
	keys, err := json.Marshal(set)
	if err != nil {
		return documents{}, fmt.Errorf("encode keys: %w", err)
	}
	found, err := json.Marshal(discovery{
		Issuer: i.URL, KeysURL: KeysURL(i.URL), Authorization: "urn:kubernetes:programmatic_authorization",
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"}, Algorithms: []string{"ES256"}, Claims: []string{"sub", "iss"},
	})
	if err != nil {
		return documents{}, fmt.Errorf("encode discovery document: %w", err)
	}
	return documents{found, keys}, nil
}

// publisher answers from memory.
type publisher struct {
	list     func(context.Context) ([]Issuer, error)
	log      *zap.Logger
	now      func() time.Time
	listings singleflight.Group

	mu     sync.Mutex
	byID   map[string]documents
	listed time.Time // when the last listing began
}

// New returns a handler for /id/; list returns all issuers there are.
func New(list func(context.Context) ([]Issuer, error), log *zap.Logger, now func() time.Time) http.Handler {
	p := &publisher{list: list, log: log, now: now}
	routes := http.NewServeMux()
	for pattern, pick := range map[string]func(documents) []byte{
		"GET /id/{id}/.well-known/openid-configuration": func(d documents) []byte { return d.discovery },
		"GET /id/{id}/keys":                             func(d documents) []byte { return d.keys },
	} {
		routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			found, ok := p.find(r.Context(), r.PathValue("id"))
			if !ok {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", cacheControl)
			_, _ = w.Write(pick(found)) // the caller is gone if this fails
		})
	}
	return routes
}

// find waits for a listing only to find out about an issuer that it does not know.
func (p *publisher) find(ctx context.Context, id string) (documents, bool) {
	found, ok, listed := p.known(id)
	if ok && p.now().Sub(listed) < freshFor {
		return found, true
	}
	// The answer is for everybody, so it does not end with who asks first.
	listing := p.listings.DoChan("", func() (any, error) {
		p.refresh(context.WithoutCancel(ctx))
		return nil, nil
	})
	if ok {
		return found, true
	}
	select {
	case <-listing:
	case <-ctx.Done():
	}
	found, ok, _ = p.known(id)
	return found, ok
}

func (p *publisher) known(id string) (found documents, ok bool, listed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, ok = p.byID[id]
	return found, ok, p.listed
}

// refresh lists the issuers unless that has just been done, with success or without. After an
// error, what was right before still is.
func (p *publisher) refresh(ctx context.Context) {
	p.mu.Lock()
	age := p.now().Sub(p.listed)
	if age < missAfter {
		p.mu.Unlock()
		return
	}
	p.listed = p.now()
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	issuers, err := p.list(ctx)
	if err != nil {
		p.log.Error("list issuers", zap.Error(err))
		return
	}
	byID := map[string]documents{}
	for _, issuer := range issuers {
		published, err := issuer.documents()
		if err != nil {
			p.log.Error("publish issuer", zap.String("issuer", issuer.URL), zap.Error(err))
			continue
		}
		byID[path.Base(issuer.URL)] = published
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID = byID
}
