package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	authentication "k8s.io/api/authentication/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/metrics"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// webhook is where API servers ask the service about bearer tokens: on 127.0.0.1, at a
// port that stays the same over restarts, with certificates on both sides.
type webhook struct {
	keyDir    string
	address   string
	authority *pki.Authority
}

const (
	webhookAuthority = component.WebhookAuthority
	webhookServer    = "token-webhook"
	webhookLifetime  = 365 * 24 * time.Hour
)

func openWebhook(stateDir string) (*webhook, error) {
	w := &webhook{keyDir: filepath.Join(stateDir, "pki")}
	if err := w.renewKeys(time.Now()); err != nil {
		return nil, err
	}
	ports, err := cluster.EnsurePorts(filepath.Join(stateDir, "ports.json"), []string{webhookServer}, true, nil)
	if err != nil {
		return nil, err
	}
	w.address = fmt.Sprintf("127.0.0.1:%d", ports[webhookServer])
	w.authority, err = pki.LoadAuthority(w.keyDir, webhookAuthority)
	return w, err
}

// site is what all clusters of the service in stateDir share.
func (w *webhook) site(stateDir string, address netip.Addr, publicHost string, catalog component.Catalog) cluster.Site {
	return cluster.Site{
		StateDir: stateDir, Address: address, PublicHost: publicHost, Catalog: catalog,
		WebhookURL: "https://" + w.address, WebhookAuthority: w.authority,
		WebhookAuthorityFile: w.authorityFile(),
	}
}

func (w *webhook) authorityFile() string { return filepath.Join(w.keyDir, webhookAuthority+".crt") }

func (w *webhook) renewKeys(now time.Time) error {
	_, err := pki.Ensure(w.keyDir, pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: webhookAuthority, CommonName: "ovenbird-ca"}},
		Leaves: []pki.Leaf{{
			Name: webhookServer, Authority: webhookAuthority, CommonName: webhookServer,
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, Usage: pki.Server, Lifetime: webhookLifetime,
		}},
	}, now)
	return err
}

func (w *webhook) tls() *tls.Config {
	return pki.ServerTLS(w.authorityFile(), filepath.Join(w.keyDir, webhookServer+".pem"))
}

// ownClusterOnly lets a cluster's API server ask about its own cluster's tokens only; its
// certificate is named like the cluster.
func ownClusterOnly(review http.Handler) http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("POST /clusters/{name}/tokenreview", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != r.PathValue("name") {
			http.Error(w, "this certificate is another cluster's", http.StatusForbidden)
			return
		}
		review.ServeHTTP(w, r)
	})
	return routes
}

// counted counts what API servers are told.
func counted(figures *metrics.Metrics, review http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &copied{ResponseWriter: w}
		review.ServeHTTP(answer, r)
		var told authentication.TokenReview
		if err := json.Unmarshal(answer.body.Bytes(), &told); err == nil {
			figures.Reviewed(told.Status.Authenticated)
		}
	})
}

// copied keeps what is written through it; an answer of the webhook is under a kilobyte.
type copied struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (c *copied) Write(p []byte) (int, error) {
	c.body.Write(p)
	return c.ResponseWriter.Write(p)
}
