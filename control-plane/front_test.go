package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

// opened is a front with a certificate of its own.
func opened(t *testing.T, change func(*serveFlags)) *front {
	t.Helper()
	flags := sensible(t)
	flags.tlsCert, flags.tlsKey = "", ""
	change(&flags)
	settings, err := flags.check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if settings.stateDir, err = makeStateDir(settings.stateDir); err != nil {
		t.Fatal(err)
	}
	f, err := openFront(settings, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.close() })
	return f
}

// served is the certificate that a client would be shown now.
func served(t *testing.T, f *front) *x509.Certificate {
	t.Helper()
	pair, err := f.tls().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestTheServiceSignsForItsOwnNames(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*serveFlags)
		names  []string
	}{
		"an address":       {func(*serveFlags) {}, []string{"10.0.0.10"}},
		"a name":           {func(f *serveFlags) { f.listen, f.advertiseAddress = "eks.internal:443", "10.0.0.10" }, []string{"eks.internal"}},
		"every address":    {func(f *serveFlags) { f.listen, f.advertiseAddress = ":443", "10.0.0.10" }, []string{"10.0.0.10"}},
		"other names":      {func(f *serveFlags) { f.tlsNames = []string{"eks.internal", "192.0.2.7"} }, []string{"10.0.0.10", "eks.internal", "192.0.2.7"}},
		"every v6 address": {func(f *serveFlags) { f.listen, f.advertiseAddress = "[::]:443", "10.0.0.10" }, []string{"10.0.0.10"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := opened(t, test.change)
			authority, err := os.ReadFile(f.authorityFile())
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(authority)
			certificate := served(t, f)
			for _, name := range test.names {
				if _, err := certificate.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestACertificateIsRenewedLongBeforeItsEndAndShownWithoutARestart(t *testing.T) {
	f := opened(t, func(*serveFlags) {})
	first := served(t, f)
	if err := f.renewKeys(time.Now().Add(frontLifetime / 2)); err != nil {
		t.Fatal(err)
	}
	if !served(t, f).Equal(first) {
		t.Error("half-way through its life it was renewed")
	}
	if err := f.renewKeys(first.NotAfter.Add(-frontLifetime / 4)); err != nil {
		t.Fatal(err)
	}
	if second := served(t, f); second.Equal(first) || !second.NotAfter.After(first.NotAfter) {
		t.Errorf("near its end it was not renewed: until %s, was %s", second.NotAfter, first.NotAfter)
	}
}

func TestWithoutTLSOrWithACertificateGivenNoneIsMade(t *testing.T) {
	for name, change := range map[string]func(*serveFlags){
		"given": func(f *serveFlags) { f.tlsCert, f.tlsKey = f.components+"/eks.pem", f.components+"/eks.pem" },
		"plain": plain("127.0.0.1:80"),
	} {
		f := opened(t, change)
		if made, _ := filepath.Glob(filepath.Join(f.stateDir, "pki", "*")); len(made) != 0 || f.authorityFile() != "" {
			t.Errorf("%s: made %v", name, made)
		}
		if hasTLS := f.tls() != nil; hasTLS == f.insecureHTTP {
			t.Errorf("%s: TLS %t", name, hasTLS)
		}
	}
}
