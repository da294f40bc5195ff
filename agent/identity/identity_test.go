package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const node = "ip-10-0-1-5.us-west-2.compute.internal"

// authority signs certificate requests as a cluster does.
type authority struct {
	key *ecdsa.PrivateKey
	pem []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a authority) sign(t *testing.T, request []byte, change func(*x509.Certificate)) []byte {
	t.Helper()
	block, _ := pem.Decode(request)
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || parsed.CheckSignature() != nil {
		t.Fatalf("the request is broken: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: parsed.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, parsed.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newStore(t *testing.T, ca authority) identity.Store {
	return identity.Store{
		Root: rootfs.Root(t.TempDir()), NodeName: node, Now: time.Now,
		Cluster: discover.Cluster{Name: "demo", Endpoint: "https://10.0.0.10:6443", CA: ca.pem},
	}
}

func enroll(t *testing.T, store identity.Store, ca authority) identity.Pair {
	t.Helper()
	request, err := store.Request()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := store.Save(request, ca.sign(t, request.PEM, nil))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestTheRequestIsForTheNodeAndNothingElse(t *testing.T) {
	request, err := newStore(t, newAuthority(t)).Request()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(request.PEM)
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Subject.String() != "CN=system:node:"+node+",O=system:nodes" {
		t.Errorf("subject is %s", parsed.Subject)
	}
	if len(parsed.Extensions)+len(parsed.DNSNames)+len(parsed.IPAddresses) != 0 {
		t.Errorf("the request has extensions: %v", parsed.Extensions)
	}
	if key, ok := parsed.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("the key is a %T", parsed.PublicKey)
	}
	if !strings.HasPrefix(request.Name, "ovenbird-"+node+"-") || len(request.Name) > 253 {
		t.Errorf("name is %s", request.Name)
	}
}

func TestARestartAsksTheSameAgain(t *testing.T) {
	store := newStore(t, newAuthority(t))
	first, err := store.Request()
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.Request()
	if err != nil {
		t.Fatal(err)
	}
	if first.Name != second.Name || !bytes.Equal(first.PEM, second.PEM) {
		t.Error("the second request is another one")
	}
	if err := store.Discard(); err != nil {
		t.Fatal(err)
	}
	third, err := store.Request()
	if err != nil {
		t.Fatal(err)
	}
	if third.Name == first.Name {
		t.Error("a discarded request came again")
	}
}

func TestTheCertificateIsKeptAsKubeletKeepsIt(t *testing.T) {
	ca := newAuthority(t)
	store := newStore(t, ca)
	pair := enroll(t, store, ca)

	dir := store.Root.Join("/var/lib/kubelet/pki")
	target, err := os.Readlink(filepath.Join(dir, "kubelet-client-current.pem"))
	if err != nil || !strings.HasPrefix(target, "kubelet-client-20") {
		t.Errorf("link is %s, %v", target, err)
	}
	current := filepath.Join(dir, "kubelet-client-current.pem")
	if _, err := tls.LoadX509KeyPair(current, current); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v is in %s, want the pair and the link to it: %v", entries, dir, err)
	}
	for _, entry := range entries {
		if info, _ := entry.Info(); info.Mode().Type() != fs.ModeSymlink && info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", entry.Name(), info.Mode())
		}
	}
	got, err := store.Current()
	if err != nil || !bytes.Equal(got.Certificate, pair.Certificate) || !bytes.Equal(got.Key, pair.Key) {
		t.Errorf("current pair is another one, %v", err)
	}
}

func TestClientGoReadsTheKubeconfig(t *testing.T) {
	ca := newAuthority(t)
	for _, name := range []string{"demo", "007", "true"} {
		got, err := clientcmd.Load(identity.Kubeconfig(discover.Cluster{Name: name, Endpoint: "https://10.0.0.10:6443", CA: ca.pem}).Data)
		if err != nil {
			t.Fatal(err)
		}
		at := got.Contexts[got.CurrentContext]
		if cluster := got.Clusters[name]; at.Cluster != name || cluster.Server != "https://10.0.0.10:6443" || !bytes.Equal(cluster.CertificateAuthorityData, ca.pem) {
			t.Errorf("%s: got %+v", name, cluster)
		}
		const pair = "/var/lib/kubelet/pki/kubelet-client-current.pem"
		if user := got.AuthInfos[at.AuthInfo]; user.ClientCertificate != pair || user.ClientKey != pair || len(user.ClientKeyData) > 0 {
			t.Errorf("%s: got %+v", name, user)
		}
	}
}

func TestACertificateThatIsNotOursIsRefused(t *testing.T) {
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"another node's":   {func(c *x509.Certificate) { c.Subject.CommonName = "system:node:other" }, "the certificate is for CN=system:node:other"},
		"without a group":  {func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "system:node:" + node} }, "the certificate is for CN="},
		"a server's":       {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "not for a client"},
		"ended":            {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, "the certificate ends"},
		"about to end":     {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) }, "the certificate ends"},
		"for another key":  {nil, "for another key"},
		"not even parsing": {nil, "not a PEM certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t, ca)
			request, err := store.Request()
			if err != nil {
				t.Fatal(err)
			}
			certificate := ca.sign(t, request.PEM, test.change)
			switch name {
			case "for another key":
				other, _ := newStore(t, ca).Request()
				certificate = ca.sign(t, other.PEM, nil)
			case "not even parsing":
				certificate = []byte("hello")
			}
			if _, err := store.Save(request, certificate); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if _, err := store.Current(); err == nil {
				t.Error("it was kept")
			}
		})
	}
}

func TestAnIdentityIsUsedAgainOnlyByItsOwnNodeAndCluster(t *testing.T) {
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		change func(*identity.Store)
		want   string // "" when it is used again
	}{
		"the same":                 {func(*identity.Store) {}, ""},
		"an endpoint moved":        {func(s *identity.Store) { s.Cluster.Endpoint = "https://10.0.0.11" }, ""},
		"another name":             {func(s *identity.Store) { s.NodeName = "other" }, "the certificate is for CN=system:node:" + node},
		"kubelet's own kubeconfig": {func(s *identity.Store) { rename(s.Root, "default-cluster") }, ""},
		"another cluster":          {func(s *identity.Store) { s.Cluster.Name = "other" }, "another cluster"},
		"another authority":        {func(s *identity.Store) { s.Cluster.CA = newAuthority(t).pem }, "another cluster"},
		"two hours later":          {func(s *identity.Store) { s.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } }, "the certificate ends"},
		"forgotten":                {func(s *identity.Store) { _ = s.Forget() }, "no such file"},
		"the file truncated":       {func(s *identity.Store) { truncate(s.Root) }, "does not hold a certificate and a key"},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t, ca)
			enroll(t, store, ca)
			test.change(&store)
			_, err := store.Current()
			if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// rename has the kubeconfig call its cluster otherwise, as kubelet does when it writes one.
func rename(root rootfs.Root, name string) {
	path := root.Join("/var/lib/kubelet/kubeconfig")
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.ReplaceAll(data, []byte(`"demo"`), []byte(name)), 0o600)
	}
	if err != nil {
		panic(err)
	}
}

func truncate(root rootfs.Root) {
	if err := os.WriteFile(root.Join("/var/lib/kubelet/pki/kubelet-client-current.pem"), nil, 0o600); err != nil {
		panic(err)
	}
}

// TestAKillAtAnyWriteConverges takes away what is written last, step by step.
func TestAKillAtAnyWriteConverges(t *testing.T) {
	ca := newAuthority(t)
	for _, gone := range [][]string{
		{"/var/lib/kubelet/kubeconfig"},
		{"/var/lib/kubelet/kubeconfig", "/var/lib/kubelet/pki/kubelet-client-current.pem"},
	} {
		store := newStore(t, ca)
		enroll(t, store, ca)
		for _, path := range gone {
			if err := os.Remove(store.Root.Join(path)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := store.Current(); err == nil {
			t.Errorf("half an identity without %s is used", gone)
		}
		pair := enroll(t, store, ca)
		if got, err := store.Current(); err != nil || !slices.Equal(got.Certificate, pair.Certificate) {
			t.Errorf("after a kill before %s: %v", gone, err)
		}
	}
}

func TestKubeletLoadsAKubeconfigWithTokens(t *testing.T) {
	cluster := discover.Cluster{Name: "123", Endpoint: "https://host", CA: newAuthority(t).pem}
	file := identity.TokenKubeconfig(cluster, "us-west-2", "https://sts.us-west-2.amazonaws.com/")
	bootstrap := identity.BootstrapKubeconfig(cluster, "us-west-2", "https://sts.us-west-2.amazonaws.com/")
	if bootstrap.Path == file.Path || !bytes.Equal(bootstrap.Data, file.Data) || bootstrap.Mode != 0o600 {
		t.Errorf("to bootstrap by: %s, mode %o\n%s", bootstrap.Path, bootstrap.Mode, bootstrap.Data)
	}
	got, err := clientcmd.Load(file.Data)
	if err != nil {
		t.Fatal(err)
	}
	user := got.AuthInfos[got.Contexts[got.CurrentContext].AuthInfo]
	if user.ClientCertificate != "" || user.Exec == nil || user.Exec.Command != "/usr/bin/ovenbird-agent" || user.Exec.InteractiveMode != "Never" || user.Exec.APIVersion != "client.authentication.k8s.io/v1" ||
		!slices.Equal(user.Exec.Args, []string{"token", "--cluster", "123", "--region", "us-west-2", "--sts-endpoint", "https://sts.us-west-2.amazonaws.com/"}) {
		t.Errorf("got %+v", user.Exec)
	}
}

func TestATokenFromBeforeTheClockWasSetIsNotUsed(t *testing.T) {
	wrong := time.Now().Add(3 * time.Hour)
	now := wrong
	tokens := identity.Tokens{Cluster: "demo", Now: func() time.Time { return now }, Signer: ststoken.Signer{
		Region: "us-west-2", Credentials: credentials.NewStaticCredentialsProvider("ASIAEXAMPLE", "secret", "session"), Now: func() time.Time { return now },
	}}
	before, err := tokens.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now = time.Now()
	after, err := tokens.Token(t.Context())
	if err != nil || after == before {
		t.Errorf("the token of %s is still used: %v", wrong, err)
	}
}

func TestATokenIsUsedUntilItIsAboutToEnd(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return at }
	asked := 0
	tokens := identity.Tokens{Cluster: "demo", Now: clock, Signer: ststoken.Signer{
		Region: "us-west-2", Now: clock,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			if asked++; asked == 3 {
				return aws.Credentials{}, errors.New("no credentials")
			}
			return aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
	}}
	seen := map[string]bool{}
	for _, step := range []struct {
		after  time.Duration
		tokens int
	}{{0, 1}, {13 * time.Minute, 1}, {time.Minute, 2}, {13 * time.Minute, 2}} {
		at = at.Add(step.after)
		token, err := tokens.Token(t.Context())
		if seen[token] = true; err != nil || len(seen) != step.tokens {
			t.Errorf("after %s more: %d tokens, %v; want %d", step.after, len(seen), err, step.tokens)
		}
	}
	at = at.Add(time.Hour)
	if token, err := tokens.Token(t.Context()); err == nil || token != "" {
		t.Errorf("got %q without credentials", token)
	}
}
