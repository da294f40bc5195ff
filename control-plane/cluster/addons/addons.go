// Package addons holds what every Ovenbird cluster runs inside itself, as manifests: access
// for administrators and for the API server's kubelet client, what access policies allow,
// kube-proxy and CoreDNS.
//
// Rendering is pure; package cluster applies the result. The container images are those
// baked into the node image, so nothing is pulled.
package addons

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"text/template"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed *.yaml
var manifests embed.FS

// Values are what the manifests differ in between clusters.
type Values struct {
	AdministratorsGroup string // bound to cluster-admin
	KubeletClientUser   string // the API server's name towards kubelets
	Endpoint            string // URL of the API server
	PodCIDR             netip.Prefix
	DNSAddress          netip.Addr // of the Service kube-dns
	KubernetesVersion   string     // "1.37.2"
	CoreDNSVersion      string     // "1.15.0"
}

// Digest changes when any value does.
func (v Values) Digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", v))
	return hex.EncodeToString(sum[:8])
}

// Render returns the objects to apply, each with its namespace where it has one.
func Render(values Values) ([]*unstructured.Unstructured, error) {
	all, err := template.New("addons").Option("missingkey=error").ParseFS(manifests, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("parse add-on manifests: %w", err)
	}
	var objects []*unstructured.Unstructured
	for _, name := range []string{"access.yaml", "policies.yaml", "kube-proxy.yaml", "coredns.yaml"} {
		var text bytes.Buffer
		if err := all.ExecuteTemplate(&text, name, values); err != nil {
			return nil, fmt.Errorf("render add-on manifest: %w", err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(&text, 4096)
		for {
			var object unstructured.Unstructured
			err := decoder.Decode(&object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("decode add-on manifest %s: %w", name, err)
			}
			objects = append(objects, &object)
		}
	}
	return objects, nil
}
