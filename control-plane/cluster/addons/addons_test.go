package addons

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func values() Values {
	return Values{
		AdministratorsGroup: "ovenbird:cluster-admins",
		KubeletClientUser:   "kube-apiserver-kubelet-client",
		Endpoint:            "https://10.0.0.10:6443",
		PodCIDR:             netip.MustParsePrefix("10.244.0.0/16"),
		DNSAddress:          netip.MustParseAddr("172.20.0.10"),
		KubernetesVersion:   "1.37.2",
		CoreDNSVersion:      "1.15.0",
	}
}

func TestTheAddOnsAreAsReviewed(t *testing.T) {
	objects, err := Render(values())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, object := range objects {
		data, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("---\n")
		text.Write(data)
	}
	path := filepath.Join("testdata", "addons.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("differs from %s (go test -update rewrites it):\n%s", path, text.String())
	}
}

// A policy's group, role and binding have one name; package access gives it to the group.
func TestEveryPolicyOnOfferHasItsRole(t *testing.T) {
	objects, err := Render(values())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, object := range objects {
		found[object.GetKind()+" "+object.GetName()] = true
	}
	for _, policy := range []string{registry.ClusterAdminPolicy, registry.AdminPolicy, registry.EditPolicy, registry.ViewPolicy} {
		for _, kind := range []string{"ClusterRole", "ClusterRoleBinding"} {
			if !found[kind+" "+access.Role(policy)] {
				t.Errorf("no %s %s", kind, access.Role(policy))
			}
		}
	}
}

func TestANewConfigurationMeansNewPods(t *testing.T) {
	moved := values()
	moved.Endpoint = "https://10.0.0.11:6443"
	if values().Digest() == moved.Digest() {
		t.Error("the digest does not see a new endpoint")
	}
}
