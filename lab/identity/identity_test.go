package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

func TestRoleCredentialsChangeEveryHourAndEndAfterSix(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 20, 0, 0, time.UTC)
	at := func(now time.Time) Roles {
		return Roles{Secret: []byte("secret"), Now: func() time.Time { return now }}
	}
	const arn = "arn:aws:sts::111122223333:assumed-role/r/i-1"
	first := at(start).Session(arn)
	if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(first.AccessKeyID) {
		t.Errorf("access key ID %q", first.AccessKeyID)
	}
	if got := at(start.Add(30 * time.Minute)).Session(arn); got != first {
		t.Error("credentials changed within the hour")
	}
	if got := at(start.Add(time.Hour)).Session(arn); got.AccessKeyID == first.AccessKeyID {
		t.Error("credentials did not change after an hour")
	}
	others := []string{"arn:aws:sts::111122223333:assumed-role/r/i-2", arn}
	for after, valid := range map[time.Duration]bool{0: true, 5 * time.Hour: true, 5*time.Hour + 39*time.Minute: true, 6 * time.Hour: false, 48 * time.Hour: false} {
		got, err := at(start.Add(after)).Lookup(first.AccessKeyID, others)
		if valid && (err != nil || got != first.Credential) {
			t.Errorf("after %s: %v, %v", after, got, err)
		}
		if !valid && !errors.Is(err, sigv4.ErrUnknownKey) {
			t.Errorf("after %s: %v, want ErrUnknownKey", after, err)
		}
	}
	if _, err := at(start).Lookup(first.AccessKeyID, others[:1]); !errors.Is(err, sigv4.ErrUnknownKey) {
		t.Errorf("an instance that is gone still has credentials: %v", err)
	}
	if a, b := at(start).Session(others[0]), at(start).Session(others[1]); a.AccessKeyID == b.AccessKeyID || a.SecretAccessKey == b.SecretAccessKey {
		t.Error("two instances share credentials")
	}
}

func TestCredentialsAndSecretAreMadeOnceAndKeptPrivate(t *testing.T) {
	dir := t.TempDir()
	credentials, secret := filepath.Join(dir, "c.json"), filepath.Join(dir, "s.key")
	var before []byte
	for run := range 2 {
		if err := errors.Join(EnsureCredentials(credentials, "arn:admin"), EnsureSecret(secret)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadCredentials(credentials)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].ARN != "arn:admin" || len(got[0].AccessKeyID) != 20 || len(got[0].SecretAccessKey) != 40 {
			t.Errorf("credentials %+v", got)
		}
		key, err := ReadSecret(secret)
		if err != nil {
			t.Fatal(err)
		}
		now := slices.Concat(key, []byte(got[0].SecretAccessKey))
		if run == 1 && string(now) != string(before) {
			t.Error("the second run replaced them")
		}
		before = now
	}
	for _, path := range []string{credentials, secret} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestEndpointsServeCertificatesOfTheLabsAuthority(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	endpoint := Endpoint{File: "aws", Name: "aws.lab.internal", Address: netip.MustParseAddr("10.0.0.3")}
	now := time.Now()
	if err := EnsureTLS(ca, dir, []Endpoint{endpoint}, now); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "aws.crt"), filepath.Join(dir, "aws.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aws.lab.internal", "10.0.0.3"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("verify as %s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "eks.lab.internal", Roots: roots}); err == nil {
		t.Error("the certificate is good for another endpoint too")
	}

	if err := EnsureTLS(ca, dir, []Endpoint{endpoint}, now); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(ca); string(again) != string(pem) {
		t.Error("the second run made another authority")
	}
	if err := os.Remove(filepath.Join(dir, "aws.key")); err != nil {
		t.Fatal(err)
	}
	if err := EnsureTLS(ca, dir, []Endpoint{endpoint}, now); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(ca); string(again) == string(pem) {
		t.Error("half a set of certificates was kept")
	}
}

func TestThePolicyIsOneThatTheServiceTakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	for range 2 {
		if err := EnsurePolicy(path, "arn:aws:iam::111122223333:user/admin"); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := iam.OpenPolicy(path, zap.NewNop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	admin := iam.Caller{Principal: iam.NewPrincipal(ststoken.Identity{ARN: "arn:aws:iam::111122223333:user/admin"})}
	if !policy.Current().Allows(admin, iam.Request{Operation: "eks:ListClusters", Resource: "*"}) {
		t.Error("the administrator may not list clusters")
	}
}
