package cluster

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster/addons"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Site is what all clusters of a service share.
type Site struct {
	StateDir string     // absolute
	Address  netip.Addr // where API servers listen, as nodes reach it
	Catalog  component.Catalog
	// PublicHost is host[:port] of the service's HTTPS listener, as others reach it.
	PublicHost string
	// WebhookURL is where the token webhook listens; a cluster's path is below it.
	WebhookURL           string
	WebhookAuthority     *pki.Authority
	WebhookAuthorityFile string
}

// errHopeless marks what no retry mends: the cluster has to be deleted.
var errHopeless = errors.New("cannot be mended")

// describe turns a cluster's record into the description of its control plane. The port
// and secret that it keeps in files are made the first time. idle: nothing of it runs.
func (s Site) describe(c registry.Cluster, idle bool) (component.Cluster, error) {
	service, err := netip.ParsePrefix(c.ServiceCIDR)
	if err != nil {
		return component.Cluster{}, fmt.Errorf("service network: %w: %w", err, errHopeless)
	}
	pods, err := netip.ParsePrefix(c.PodCIDR)
	if err != nil {
		return component.Cluster{}, fmt.Errorf("pod network: %w: %w", err, errHopeless)
	}
	if c.Port < 0 || c.Port > math.MaxUint16 {
		return component.Cluster{}, fmt.Errorf("port %d: %w", c.Port, errHopeless)
	}
	release, err := s.release(c)
	if err != nil {
		return component.Cluster{}, err
	}
	dir := Dir(s.StateDir, c.Name)
	keys := KeyDir(s.StateDir, c.Name)
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return component.Cluster{}, fmt.Errorf("make cluster directory: %w", err)
	}
	ports, err := EnsurePorts(filepath.Join(dir, portsFile),
		[]string{component.Etcd, "etcd-peer", "etcd-http", component.ControllerManager, component.Scheduler}, idle, portsOfOthers(s.StateDir, c.Name))
	if err != nil {
		return component.Cluster{}, err
	}
	secret, err := pki.EnsureSecret(filepath.Join(keys, EncryptionKey))
	if err != nil {
		return component.Cluster{}, err
	}
	description := component.Cluster{
		Name: c.Name, Release: release, Dir: dir,
		Address: s.Address, Port: uint16(c.Port), ServiceCIDR: service, PodCIDR: pods,
		Local: component.LocalPorts{
			Etcd: ports[component.Etcd], EtcdPeer: ports["etcd-peer"], EtcdHTTP: ports["etcd-http"],
			ControllerManager: ports[component.ControllerManager], Scheduler: ports[component.Scheduler],
		},
		Webhook:       component.TokenWebhook{URL: s.WebhookURL + "/clusters/" + c.Name + "/tokenreview", Authority: s.WebhookAuthorityFile},
		Issuer:        c.Issuer,
		EncryptionKey: secret,
	}
	// The other types of logs are the components' output, which is always kept.
	if slices.Contains(c.EnabledLogs, registry.LogAudit) {
		description.AuditLog = auditLog(dir)
	}
	return description, nil
}

// release keeps a cluster at the patch it runs while that is there; a new one gets the newest.
func (s Site) release(c registry.Cluster) (component.Release, error) {
	if running := c.Status.KubernetesVersion; running != "" {
		release, err := s.Catalog.Exactly(running)
		if !errors.Is(err, component.ErrNotOffered) {
			return release, err
		}
	}
	return s.Catalog.Newest(c.Version)
}

// ensureKeys makes and renews the keys of a cluster.
func (s Site) ensureKeys(description component.Cluster, now time.Time) ([]string, error) {
	return pki.Ensure(filepath.Join(description.Dir, "pki"), component.Keys(description, s.WebhookAuthority), now)
}

// client is how the service itself talks to a cluster. The certificate lives a day and is
// read again from its file when it has been renewed.
func client(description component.Cluster) *rest.Config {
	authority, certificate := description.Credentials()
	return &rest.Config{
		Host: description.Endpoint(),
		TLSClientConfig: rest.TLSClientConfig{
			CAFile: authority, CertFile: certificate, KeyFile: certificate,
		},
		QPS: -1, // the API server's own fairness is the limit
	}
}

// manifests are the objects that the service applies to a cluster.
func manifests(description component.Cluster) ([]*unstructured.Unstructured, error) {
	return addons.Render(addons.Values{
		AdministratorsGroup: iam.AdminGroup,
		KubeletClientUser:   component.KubeletClientUser,
		Endpoint:            description.Endpoint(),
		PodCIDR:             description.PodCIDR,
		DNSAddress:          description.DNSAddress(),
		KubernetesVersion:   description.Release.Kubernetes,
		CoreDNSVersion:      description.Release.CoreDNS,
	})
}
