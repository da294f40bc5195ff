package component

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func blue() Cluster {
	return Cluster{
		Name: "blue",
		Release: Release{
			Kubernetes: "1.37.2", Etcd: "3.7.3", CoreDNS: "1.15.0",
			KubernetesDir: "/components/kubernetes/1.37.2", EtcdDir: "/components/etcd/3.7.3",
		},
		Dir:     "/state/clusters/blue",
		Address: netip.MustParseAddr("10.0.0.10"), Port: 6443,
		ServiceCIDR:   netip.MustParsePrefix("172.20.0.0/16"),
		PodCIDR:       netip.MustParsePrefix("10.244.0.0/16"),
		Local:         LocalPorts{Etcd: 20001, EtcdPeer: 20002, EtcdHTTP: 20003, ControllerManager: 20004, Scheduler: 20005},
		Webhook:       TokenWebhook{URL: "https://127.0.0.1:20000/clusters/blue/tokenreview", Authority: "/state/pki/service.crt"},
		Issuer:        "https://eks.example.com/id/0123456789abcdef0123456789abcdef",
		EncryptionKey: base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)),
	}
}

func TestComponentsOfAClusterAreAsReviewed(t *testing.T) {
	for _, component := range ControlPlane(blue()) {
		t.Run(component.Name, func(t *testing.T) {
			golden(t, component.Name+".txt", describe(component))
		})
	}
}

func TestAnAuditedAPIServerIsAsReviewed(t *testing.T) {
	audited := blue()
	audited.AuditLog = "/state/clusters/blue/run/kube-apiserver-audit.log"
	golden(t, "kube-apiserver-audited.txt", describe(audited.apiServer()))
}

// describe lays a component out for review.
func describe(c Component) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version %s\ndata    %s\nafter   %v\n", c.Version, c.DataDir, c.DependsOn)
	for _, port := range c.Ports {
		fmt.Fprintf(&b, "port    %s %s\n", port.Name, port.Address)
	}
	fmt.Fprintf(&b, "ready   %s\nlive    %s\n        signed by %s, asked with %s, within %s\n",
		c.Probe.Ready, c.Probe.Live, c.Probe.Authority, c.Probe.Certificate, c.Probe.StartTimeout)
	fmt.Fprintf(&b, "\n%s\n", c.Path)
	for _, arg := range c.Args {
		fmt.Fprintf(&b, "  %s\n", arg)
	}
	for _, file := range c.Files {
		fmt.Fprintf(&b, "\n== %s %v\n%s", file.Path, file.Mode, file.Content)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (go test -update rewrites it):\n%s", path, got)
	}
}

func TestADigestChangesWithWhatDecidesHowAComponentRuns(t *testing.T) {
	base := blue()
	tests := map[string]struct {
		change  func(*Cluster)
		changed []string
	}{
		"nothing":         {func(*Cluster) {}, nil},
		"the patch":       {func(c *Cluster) { c.Release.Kubernetes = "1.37.3" }, []string{APIServer, ControllerManager, Scheduler}},
		"etcd's port":     {func(c *Cluster) { c.Local.Etcd++ }, []string{Etcd, APIServer}},
		"the issuer":      {func(c *Cluster) { c.Issuer = "" }, []string{APIServer}},
		"the webhook":     {func(c *Cluster) { c.Webhook.URL += "x" }, []string{APIServer}},
		"the pod network": {func(c *Cluster) { c.PodCIDR = netip.MustParsePrefix("10.0.0.0/8") }, []string{ControllerManager}},
		"the audit log":   {func(c *Cluster) { c.AuditLog = "/log" }, []string{APIServer}},
		"an authority":    {func(c *Cluster) { c.Trust = "another" }, []string{Etcd, APIServer, ControllerManager, Scheduler}},
		"the secrets key": {func(c *Cluster) { c.EncryptionKey = "other" }, []string{APIServer}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			other := base
			test.change(&other)
			var changed []string
			before := ControlPlane(base)
			for i, after := range ControlPlane(other) {
				if after.Digest() != before[i].Digest() {
					changed = append(changed, after.Name)
				}
			}
			if !slices.Equal(changed, test.changed) {
				t.Errorf("changed %v, want %v", changed, test.changed)
			}
		})
	}
}

func TestEveryKeyThatAComponentNamesIsAskedFor(t *testing.T) {
	cluster := blue()
	spec := Keys(cluster, nil)
	asked := map[string]bool{}
	for _, a := range spec.Authorities {
		asked[a.Name+".crt"], asked[a.Name+".key"] = true, true
	}
	for _, name := range spec.SigningKeys {
		asked[name+".pub"], asked[name+".key"] = true, true
	}
	for _, leaf := range spec.Leaves {
		asked[leaf.Name+".pem"] = true
	}
	prefix := cluster.Dir + "/pki/"
	for _, component := range ControlPlane(cluster) {
		text := describe(component)
		for rest := text; ; {
			_, after, found := strings.Cut(rest, prefix)
			if !found {
				break
			}
			name := after[:strings.IndexAny(after, "\",\n ")]
			if !asked[name] {
				t.Errorf("%s names %s, which nobody makes", component.Name, name)
			}
			rest = after
		}
	}
}

func TestOnlyTheServiceItselfIsAMaster(t *testing.T) {
	for _, leaf := range Keys(blue(), nil).Leaves {
		if slices.Contains(leaf.Organizations, "system:masters") && (leaf.Name != serviceClient || leaf.Usage != pki.Client) {
			t.Errorf("%s is a master", leaf.Name)
		}
	}
}

func TestTheResolverIsTheTenthServiceAddress(t *testing.T) {
	for prefix, want := range map[string]string{
		"172.20.0.0/16": "172.20.0.10",
		"10.96.3.4/12":  "10.96.0.10",
		"fd00::/108":    "fd00::a",
	} {
		if got := (Cluster{ServiceCIDR: netip.MustParsePrefix(prefix)}).DNSAddress().String(); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

func TestALoopbackAPIServerDoesNotPublishItself(t *testing.T) {
	cluster := blue()
	cluster.Address = netip.MustParseAddr("127.0.0.5")
	if args := cluster.apiServer().Args; !slices.Contains(args, "--endpoint-reconciler-type=none") {
		t.Errorf("kube-apiserver %v", args)
	}
}
