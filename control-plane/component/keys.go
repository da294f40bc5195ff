package component

import (
	"net/netip"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// Names of key files that more than one place refers to.
const (
	serviceAccountKey = "service-account"
	frontProxyClient  = "front-proxy-client"
	kubeletClient     = "kube-apiserver-kubelet-client"
	serviceClient     = "control-plane"
	webhookClient     = "token-webhook-client"
)

// KubeletClientUser is who the API server is when it asks a kubelet for logs or a shell.
const KubeletClientUser = kubeletClient

// WebhookAuthority is the External authority that Keys needs: the one that the token
// webhook accepts clients of. Each cluster's client is named like the cluster.
const WebhookAuthority = "service"

const (
	// leafLifetime lets a control plane outlive its stopped service by months.
	leafLifetime = 365 * 24 * time.Hour
	// serviceLifetime is short because the service's client may do everything.
	serviceLifetime = 24 * time.Hour
)

// Keys asks for every key and certificate that the components of c refer to.
func Keys(c Cluster, webhook *pki.Authority) pki.Spec {
	localhost := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	store := StoreKeys()
	return pki.Spec{
		Authorities: append(store.Authorities,
			pki.AuthorityRequest{Name: "ca", CommonName: "kubernetes-ca"},
			pki.AuthorityRequest{Name: "front-proxy-ca", CommonName: "front-proxy-ca"}),
		SigningKeys: []string{serviceAccountKey},
		External:    map[string]*pki.Authority{WebhookAuthority: webhook},
		Leaves: append(store.Leaves,
			pki.Leaf{
				Name: "apiserver", Authority: "ca", CommonName: "kube-apiserver", Usage: pki.Server, Lifetime: leafLifetime,
				DNSNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
				IPs:      []netip.Addr{c.Address, nth(c.ServiceCIDR, 1)},
			},
			pki.Leaf{Name: kubeletClient, Authority: "ca", CommonName: kubeletClient, Usage: pki.Client, Lifetime: leafLifetime},
			pki.Leaf{Name: frontProxyClient, Authority: "front-proxy-ca", CommonName: frontProxyClient, Usage: pki.Client, Lifetime: leafLifetime},
			pki.Leaf{
				Name: ControllerManager, Authority: "ca", CommonName: "system:kube-controller-manager", IPs: localhost,
				Usage: pki.Client | pki.Server, Lifetime: leafLifetime,
			},
			pki.Leaf{
				Name: Scheduler, Authority: "ca", CommonName: "system:kube-scheduler", IPs: localhost,
				Usage: pki.Client | pki.Server, Lifetime: leafLifetime,
			},
			pki.Leaf{
				Name: serviceClient, Authority: "ca", CommonName: "ovenbird:control-plane", Organizations: []string{"system:masters"},
				Usage: pki.Client, Lifetime: serviceLifetime,
			},
			pki.Leaf{Name: webhookClient, Authority: WebhookAuthority, CommonName: c.Name, Usage: pki.Client, Lifetime: leafLifetime},
		),
	}
}

// StoreKeys asks for the keys of a Store.
func StoreKeys() pki.Spec {
	localhost := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	return pki.Spec{
		Authorities: []pki.AuthorityRequest{{Name: "etcd-ca", CommonName: "etcd-ca"}},
		Leaves: []pki.Leaf{
			// etcd's own gateway calls the server with the server's certificate.
			{Name: "etcd-server", Authority: "etcd-ca", CommonName: "etcd", IPs: localhost, Usage: pki.Client | pki.Server, Lifetime: leafLifetime},
			{Name: "etcd-peer", Authority: "etcd-ca", CommonName: "etcd", IPs: localhost, Usage: pki.Client | pki.Server, Lifetime: leafLifetime},
			{Name: "etcd-client", Authority: "etcd-ca", CommonName: "etcd-client", Usage: pki.Client, Lifetime: leafLifetime},
		},
	}
}
