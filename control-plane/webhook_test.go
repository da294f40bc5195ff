package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

func TestACallerMayAskAboutItsOwnClusterOnly(t *testing.T) {
	dir := t.TempDir()
	hook, err := openWebhook(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := listen(t.Context(), "the token webhook", hook.address)
	if err != nil {
		t.Fatal(err)
	}
	yes := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- serveHTTP(ctx, listener, hook.tls(), ownClusterOnly(yes), zap.NewNop()) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	// An authority of the same name that is not the service's.
	other, err := openWebhook(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		signer *pki.Authority
		name   string
		path   string
		want   int // 0: no connection
	}{
		"its own":                    {hook.authority, "blue", "/clusters/blue/tokenreview", http.StatusOK},
		"another's":                  {hook.authority, "green", "/clusters/blue/tokenreview", http.StatusForbidden},
		"something else":             {hook.authority, "blue", "/clusters/blue", http.StatusNotFound},
		"signed by another service":  {other.authority, "blue", "/clusters/blue/tokenreview", 0},
		"without any certificate":    {nil, "", "/clusters/blue/tokenreview", 0},
		"a name that looks the same": {hook.authority, "blue", "/clusters/blue%00/tokenreview", http.StatusForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(hook.authority.Certificate)
			config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
			if test.signer != nil {
				certificate, key, err := test.signer.Issue(pki.Leaf{CommonName: test.name, Usage: pki.Client, Lifetime: time.Hour}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				pair, err := tls.X509KeyPair(certificate, key)
				if err != nil {
					t.Fatal(err)
				}
				config.Certificates = []tls.Certificate{pair}
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
			answer, err := client.Post("https://"+hook.address+test.path, "application/json", nil)
			if test.want == 0 {
				if err == nil {
					t.Errorf("answered %s, want no connection", answer.Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != test.want {
				t.Errorf("answered %s, want %d", answer.Status, test.want)
			}
		})
	}
}

func TestTheWebhookKeepsItsPortAndKeys(t *testing.T) {
	dir := t.TempDir()
	first, err := openWebhook(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := openWebhook(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.address != second.address || string(first.authority.PEM) != string(second.authority.PEM) {
		t.Errorf("listened on %s, then on %s", first.address, second.address)
	}
}
