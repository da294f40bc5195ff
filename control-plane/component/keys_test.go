package component

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// A cluster of twelve years, looked at every month. Besides the cluster itself there are
// nodes, which have read its authority when they started, up to a year ago.
func TestEveryCertificateVerifiesAtAnyTimeOfTwelveYears(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	serviceDir, dir := t.TempDir(), t.TempDir()
	service := pki.Spec{Authorities: []pki.AuthorityRequest{{Name: WebhookAuthority, CommonName: "ovenbird-ca"}}}

	type sight struct {
		at    time.Time
		roots map[string]*x509.Certificate
	}
	var sights []sight
	renewals := 0
	for now := start; now.Before(start.Add(12 * 365 * day)); now = now.Add(30 * day) {
		if _, err := pki.Ensure(serviceDir, service, now); err != nil {
			t.Fatal(err)
		}
		webhook, err := pki.LoadAuthority(serviceDir, WebhookAuthority)
		if err != nil {
			t.Fatal(err)
		}
		spec := Keys(blue(), webhook)
		changed, err := pki.Ensure(dir, spec, now)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(changed, "apiserver") {
			renewals++
		}

		roots := map[string]*x509.Certificate{WebhookAuthority: webhook.Certificate}
		for _, authority := range spec.Authorities {
			roots[authority.Name] = readCertificate(t, filepath.Join(dir, authority.Name+".crt"))
		}
		sights = append(sights, sight{now, roots})
		if now.Sub(sights[0].at) > 365*day {
			sights = sights[1:]
		}
		for _, leaf := range spec.Leaves {
			certificate := readCertificate(t, filepath.Join(dir, leaf.Name+".pem"))
			verify(t, leaf.Name, certificate, roots[leaf.Authority], now)
			verify(t, leaf.Name+" at a peer that started a year ago", certificate, sights[0].roots[leaf.Authority], now)
			if leaf.Name != serviceClient {
				verify(t, leaf.Name+" while the service is stopped for three months", certificate, roots[leaf.Authority], now.Add(90*day))
			}
		}
	}
	// Not renewed without need, either: a leaf of a year lasts eight months.
	if most := 12 * 12 / 8; renewals > most {
		t.Errorf("the API server's certificate was made %d times, want at most %d", renewals, most)
	}
}

func verify(t *testing.T, what string, certificate, root *x509.Certificate, now time.Time) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Fatalf("%s on %s: %v", what, now.Format(time.DateOnly), err)
	}
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s holds no certificate", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
