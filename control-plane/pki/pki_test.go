package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func serving() Leaf {
	return Leaf{
		Name: "server", Authority: "ca", CommonName: "kube-apiserver", Organizations: []string{"ovenbird"},
		DNSNames: []string{"kubernetes"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.10")},
		Usage: Server, Lifetime: 90 * 24 * time.Hour,
	}
}

func spec() Spec {
	return Spec{
		Authorities: []AuthorityRequest{{Name: "ca", CommonName: "cluster"}},
		SigningKeys: []string{"service-account"},
		Leaves:      []Leaf{serving()},
	}
}

func ensure(t *testing.T, dir string, spec Spec, now time.Time) []string {
	t.Helper()
	changed, err := Ensure(dir, spec, now)
	if err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	return changed
}

func TestALeafIsStaleWhenItNoLongerServes(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, spec(), today)
	ca, err := LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	have, err := readLeaf(filepath.Join(dir, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	ensure(t, other, Spec{Authorities: []AuthorityRequest{{Name: "ca", CommonName: "cluster"}}}, today)
	stranger, err := LoadAuthority(other, "ca")
	if err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		change func(*Leaf)
		issuer *x509.Certificate
		now    time.Time
		want   string
	}{
		"it is fresh":                       {now: today},
		"a third of its life is left":       {now: today.Add(60 * 24 * time.Hour)},
		"less than a third is left":         {now: today.Add(61 * 24 * time.Hour), want: "near its end"},
		"the clock is before its start":     {now: today.Add(-time.Hour), want: "not valid yet"},
		"another authority took over":       {now: today, issuer: stranger.Certificate, want: "signed by another authority"},
		"a shorter life is wanted":          {now: today, change: func(l *Leaf) { l.Lifetime = time.Hour }, want: "longer-lived than asked for"},
		"another name is wanted":            {now: today, change: func(l *Leaf) { l.CommonName = "etcd" }, want: "issued to another subject"},
		"an organization is not wanted":     {now: today, change: func(l *Leaf) { l.Organizations = nil }, want: "issued to another subject"},
		"an address is wanted as well":      {now: today, change: func(l *Leaf) { l.IPs = append(l.IPs, netip.MustParseAddr("127.0.0.1")) }, want: "issued to other addresses"},
		"a host name is no longer wanted":   {now: today, change: func(l *Leaf) { l.DNSNames = nil }, want: "issued to other addresses"},
		"it is wanted for a client as well": {now: today, change: func(l *Leaf) { l.Usage |= Client }, want: "issued for another use"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := serving()
			if test.change != nil {
				test.change(&want)
			}
			issuer := ca.Certificate
			if test.issuer != nil {
				issuer = test.issuer
			}
			if got := Stale(have, want, issuer, test.now); got != test.want {
				t.Errorf("Stale = %q, want %q", got, test.want)
			}
		})
	}
}

func TestEnsureMakesEverythingOnceAndForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if got, want := ensure(t, dir, spec(), today), []string{"ca", "server", "service-account"}; !slices.Equal(got, want) {
		t.Errorf("the first run made %v, want %v", got, want)
	}
	before := contents(t, dir)
	if got := ensure(t, dir, spec(), today.Add(time.Hour)); len(got) != 0 {
		t.Errorf("the second run made %v, want nothing", got)
	}
	for name, data := range contents(t, dir) {
		if before[name] != data {
			t.Errorf("%s changed", name)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
}

func TestEnsureRenewsALeafWithAFreshKeyAndKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, spec(), today)
	before := contents(t, dir)
	if got, want := ensure(t, dir, spec(), today.Add(80*24*time.Hour)), []string{"server"}; !slices.Equal(got, want) {
		t.Fatalf("renewed %v, want %v", got, want)
	}
	for name, data := range contents(t, dir) {
		if changed := before[name] != data; changed != (name == "server.pem") {
			t.Errorf("%s: changed = %v", name, changed)
		}
	}
	old, err := tls.X509KeyPair([]byte(before["server.pem"]), []byte(before["server.pem"]))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if old.PrivateKey.(*ecdsa.PrivateKey).Equal(fresh.PrivateKey) {
		t.Error("the renewed certificate has the old key")
	}
}

func TestAnAuthorityIsRenewedInGoodTimeAndTrustedOnBothSides(t *testing.T) {
	const year = 365 * 24 * time.Hour
	dir := t.TempDir()
	ensure(t, dir, spec(), today)
	before, err := LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration][]string{8*year - 24*time.Hour: {"server"}, 8 * year: {"ca", "server"}, 20 * year: {"ca", "server"}} {
		dir := t.TempDir()
		ensure(t, dir, spec(), today)
		if got := ensure(t, dir, spec(), today.Add(after)); !slices.Equal(got, want) {
			t.Errorf("after %d days: renewed %v, want %v", after/24/time.Hour, got, want)
		}
	}

	now := today.Add(8*year - 24*time.Hour)
	ensure(t, dir, spec(), now)
	issuedBefore, err := readLeaf(filepath.Join(dir, "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(24 * time.Hour)
	if got := ensure(t, dir, spec(), now); !slices.Equal(got, []string{"ca"}) {
		t.Fatalf("renewed %v, want the authority alone", got)
	}
	after, err := LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	if !before.key.Equal(after.key) || !bytes.Equal(before.Certificate.RawSubject, after.Certificate.RawSubject) ||
		!bytes.Equal(before.Certificate.SubjectKeyId, after.Certificate.SubjectKeyId) {
		t.Error("the renewed authority is another one")
	}
	certificate, _, err := after.Issue(serving(), now)
	if err != nil {
		t.Fatal(err)
	}
	issuedAfter, err := parseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range []*x509.Certificate{issuedBefore, issuedAfter} {
		for _, root := range []*x509.Certificate{before.Certificate, after.Certificate} {
			roots := x509.NewCertPool()
			roots.AddCert(root)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
				t.Errorf("a leaf of %s under an authority of %s: %v", leaf.NotBefore, root.NotBefore, err)
			}
		}
	}
}

func TestEnsureRecoversFromBeingKilled(t *testing.T) {
	tests := map[string]struct {
		damage func(t *testing.T, dir string)
		made   []string
		fails  string
	}{
		"before an authority's certificate was written": {
			damage: remove("ca.crt", "server.pem"), made: []string{"ca", "server"}},
		"before a signing key's public half was written": {
			damage: remove("service-account.pub"), made: []string{"service-account"}},
		"before a leaf was written": {
			damage: remove("server.pem"), made: []string{"server"}},
		"leaving a truncated leaf behind": {
			damage: truncate("server.pem"), made: []string{"server"}},
		"but an authority whose key is lost is not replaced": {
			damage: remove("ca.key"), fails: "ca.key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ensure(t, dir, spec(), today)
			test.damage(t, dir)
			made, err := Ensure(dir, spec(), today)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("err = %v, want one naming %s", err, test.fails)
				}
				return
			}
			if err != nil || !slices.Equal(made, test.made) {
				t.Errorf("made %v, %v, want %v", made, err, test.made)
			}
		})
	}
}

func TestALeafCanBeSignedByAnAuthorityOfAnotherDirectory(t *testing.T) {
	service, cluster := t.TempDir(), t.TempDir()
	ensure(t, service, spec(), today)
	ca, err := LoadAuthority(service, "ca")
	if err != nil {
		t.Fatal(err)
	}
	leaf := Leaf{Name: "webhook-client", Authority: "service", CommonName: "blue", Usage: Client, Lifetime: time.Hour}
	ensure(t, cluster, Spec{Leaves: []Leaf{leaf}, External: map[string]*Authority{"service": ca}}, today)
	cert, err := readLeaf(filepath.Join(cluster, "webhook-client.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: today, KeyUsages: usages}); err != nil {
		t.Error(err)
	}
	if _, err := Ensure(cluster, Spec{Leaves: []Leaf{leaf}}, today); err == nil {
		t.Error("a leaf of an unknown authority was accepted")
	}
}

func TestALeafMustNotBeNamedLikeItsAuthority(t *testing.T) {
	leaf := Leaf{Name: "server", Authority: "ca", CommonName: "cluster", Usage: Server, Lifetime: time.Hour}
	wanted := spec()
	wanted.Leaves = []Leaf{leaf}
	if _, err := Ensure(t.TempDir(), wanted, today); err == nil {
		t.Error("OpenSSL would take it for self-signed")
	}
}

func TestASecretIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	first, err := EnsureSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsureSecret(path)
	if err != nil || first != second || len(first) != 44 {
		t.Errorf("secrets %d and %d characters, equal %v, err %v", len(first), len(second), first == second, err)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

func remove(names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, name := range names {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func truncate(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Truncate(filepath.Join(dir, name), 100); err != nil {
			t.Fatal(err)
		}
	}
}
