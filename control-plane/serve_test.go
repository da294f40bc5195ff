package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// sensible are flags that name what is there.
func sensible(t *testing.T) serveFlags {
	t.Helper()
	dir := t.TempDir()
	if _, err := pki.Ensure(dir, pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: "ca", CommonName: "ca"}},
		Leaves:      []pki.Leaf{{Name: "eks", Authority: "ca", CommonName: "eks", Usage: pki.Server, Lifetime: time.Hour}},
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"credentials.json":                 `{"credentials":[{"accessKeyId":"AKIA","secretAccessKey":"s","arn":"arn:aws:iam::111122223333:user/a"}]}`,
		"policy.json":                      samplePolicy,
		"kubernetes/1.37.2/kube-apiserver": "", "kubernetes/1.37.2/kube-controller-manager": "", "kubernetes/1.37.2/kube-scheduler": "",
		"etcd/3.7.3/etcd": "", "coredns/1.15.0/coredns": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return serveFlags{
		listen: "10.0.0.10:443", tlsCert: dir + "/eks.pem", tlsKey: dir + "/eks.pem", region: "us-west-2", accountID: "111122223333",
		stateDir: dir + "/state", components: dir, credentials: dir + "/credentials.json", policy: dir + "/policy.json", podCIDR: defaultPodCIDR,
	}
}

// plain serves without TLS, with what else that needs.
func plain(listen string) func(*serveFlags) {
	return func(f *serveFlags) {
		f.listen, f.advertiseAddress = listen, "10.0.0.10"
		f.tlsCert, f.tlsKey, f.insecureHTTP = "", "", true
	}
}

func TestServeNamesTheFlagAtFault(t *testing.T) {
	tests := map[string]struct {
		change func(*serveFlags)
		want   string
	}{
		"nothing is wrong":             {func(*serveFlags) {}, ""},
		"no port to listen on":         {func(f *serveFlags) { f.listen = "10.0.0.10" }, "--listen"},
		"a name as the address":        {func(f *serveFlags) { f.listen = "localhost:443" }, "--advertise-address"},
		"any address":                  {func(f *serveFlags) { f.listen = ":443" }, "--advertise-address"},
		"an account that is too short": {func(f *serveFlags) { f.accountID = "123" }, "--account-id"},
		"a pod network with host bits": {func(f *serveFlags) { f.podCIDR = "10.244.1.0/16" }, "--pod-cidr"},
		"backups to nowhere":           {func(f *serveFlags) { f.backupInterval = time.Hour }, "--backup-to"},
		"backups all the time":         {func(f *serveFlags) { f.backupInterval, f.backup.where = time.Second, "d" }, "--backup-interval"},
		"backups to S3 with no key":    {func(f *serveFlags) { f.backupInterval, f.backup.where = time.Hour, "s3://b" }, "--backup-key-file"},
		"a URL as the public host":     {func(f *serveFlags) { f.publicHost = "https://eks.example.com" }, "--public-host"},
		"no certificate":               {func(f *serveFlags) { f.tlsCert += "x" }, "--tls-cert"},
		"a key without a certificate":  {func(f *serveFlags) { f.tlsCert = "" }, "--tls-cert"},
		"a certificate and a name":     {func(f *serveFlags) { f.tlsNames = []string{"eks.internal"} }, "--tls-name"},
		"a certificate of its own":     {func(f *serveFlags) { f.tlsCert, f.tlsKey, f.tlsNames = "", "", []string{"eks.internal"} }, ""},
		"no TLS on the network":        {func(f *serveFlags) { f.tlsCert, f.tlsKey, f.insecureHTTP = "", "", true }, "not a loopback address"},
		"no TLS on every address":      {plain("0.0.0.0:80"), "not a loopback address"},
		"no TLS on loopback by name":   {plain("localhost:80"), "not a loopback address"},
		"no TLS on loopback":           {plain("127.0.0.1:80"), ""},
		"no TLS, with a certificate":   {func(f *serveFlags) { f.listen, f.insecureHTTP = "127.0.0.1:80", true }, "--tls-cert"},
		"no TLS and no credentials": {func(f *serveFlags) {
			plain("127.0.0.1:80")(f)
			f.credentials = ""
		}, "--credentials"},
		"no credentials":                {func(f *serveFlags) { f.credentials = "" }, ""},
		"credentials that do not exist": {func(f *serveFlags) { f.credentials += "x" }, "--credentials"},
		"no policy":                     {func(f *serveFlags) { f.policy = "" }, `--policy: name a file that says who may call the EKS API, such as {"statements"`},
		"no components":                 {func(f *serveFlags) { f.components += "/x" }, "make components"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			flags := sensible(t)
			test.change(&flags)
			_, err := flags.check(t.Context())
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want one line that says %s", err, test.want)
			}
		})
	}
}

func TestAPIServersListenWhereTheEKSAPIDoesByDefault(t *testing.T) {
	flags := sensible(t)
	settings, err := flags.check(t.Context())
	if err != nil || settings.address != netip.MustParseAddr("10.0.0.10") {
		t.Errorf("address %v, %v", settings.address, err)
	}
	flags.advertiseAddress = "192.0.2.1"
	if settings, err = flags.check(t.Context()); err != nil || settings.address != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("address %v, %v", settings.address, err)
	}
}

func TestIssuersAreNamedByTheHostThatOthersReach(t *testing.T) {
	for _, test := range []struct{ listen, advertised, public, want string }{
		{"10.0.0.10:443", "", "", "10.0.0.10"},
		{"10.0.0.10:8443", "", "", "10.0.0.10:8443"},
		{":8443", "192.0.2.1", "", "192.0.2.1:8443"},
		{"[::]:443", "2001:db8::1", "", "[2001:db8::1]"},
		{"10.0.0.10:8443", "", "eks.example.com:443", "eks.example.com"},
	} {
		flags := sensible(t)
		flags.listen, flags.advertiseAddress, flags.publicHost = test.listen, test.advertised, test.public
		if settings, err := flags.check(t.Context()); err != nil || settings.publicHost != test.want {
			t.Errorf("%+v: %q, %v", test, settings.publicHost, err)
		}
	}
}

func TestAStateDirectoryHasOneService(t *testing.T) {
	dir := t.TempDir()
	first, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); !errors.Is(err, errRunning) || !strings.Contains(err.Error(), "--state-dir") {
		t.Errorf("a second claim: %v", err)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second, err := claim(dir)
	if err != nil {
		t.Fatalf("after the first is gone: %v", err)
	}
	if err := second.release(); err != nil {
		t.Error(err)
	}
}

func TestRenderRefusesWhatItCannotLayOut(t *testing.T) {
	good := sensible(t)
	for name, change := range map[string]struct {
		cluster string
		flags   renderFlags
	}{
		"a name with a slash": {"a/b", renderFlags{advertiseAddress: "10.0.0.10"}},
		"the parent":          {"..", renderFlags{advertiseAddress: "10.0.0.10"}},
		"no address":          {"blue", renderFlags{advertiseAddress: "here"}},
		"another version":     {"blue", renderFlags{advertiseAddress: "10.0.0.10", version: "1.99", serviceCIDR: "10.100.0.0/16", podCIDR: defaultPodCIDR}},
	} {
		flags := change.flags
		flags.components, flags.out = good.components, t.TempDir()
		if _, err := flags.render(change.cluster); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
