package component

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Names of the components of a cluster.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// Cluster describes a control plane: everything that its components are computed from.
type Cluster struct {
	Name    string
	Release Release
	// Dir holds all of the cluster's files: keys under pki/, etcd's data under etcd/.
	Dir         string
	Address     netip.Addr // where the API server listens
	Port        uint16
	ServiceCIDR netip.Prefix
	PodCIDR     netip.Prefix
	Local       LocalPorts
	Webhook     TokenWebhook
	// Issuer signs service account tokens; its keys are published by the service. Empty:
	// the endpoint is the issuer, as it was of clusters from before.
	Issuer string
	// EncryptionKey is 32 bytes, base64-encoded, with which Secrets are encrypted in etcd.
	EncryptionKey string
	// AuditLog is the file that the API server writes its audit log to; empty: none.
	AuditLog string
	// Trust identifies the content of Authorities: see Component.
	Trust string
}

// LocalPorts are the ports on 127.0.0.1 that a cluster's components listen on.
type LocalPorts struct {
	Etcd              uint16
	EtcdPeer          uint16
	EtcdHTTP          uint16 // health and metrics
	ControllerManager uint16
	Scheduler         uint16
}

// TokenWebhook is where the API server sends bearer tokens that it cannot verify itself.
type TokenWebhook struct {
	URL       string
	Authority string // file: who signed the webhook's certificate
}

// Endpoint is the URL of the cluster's API server.
func (c Cluster) Endpoint() string {
	return "https://" + netip.AddrPortFrom(c.Address, c.Port).String()
}

// DNSAddress is the cluster's resolver: the tenth address of the service network, which is
// where Amazon EKS puts it and what nodes compute by themselves.
func (c Cluster) DNSAddress() netip.Addr { return nth(c.ServiceCIDR, 10) }

// ControlPlane returns the components of c.
func ControlPlane(c Cluster) []Component {
	return []Component{c.etcd(), c.apiServer(), c.controllerManager(), c.scheduler()}
}

func (c Cluster) file(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

func (c Cluster) key(name string) string { return c.file("pki", name) }

func (c Cluster) program(name string) string {
	return filepath.Join(c.Release.KubernetesDir, name)
}

// Credentials are the files with which the service itself talks to the cluster: who signed
// the servers' certificates, and its own certificate and key.
func (c Cluster) Credentials() (authority, certificate string) {
	return c.key("ca.crt"), c.key(serviceClient + ".pem")
}

// Authorities are the files of everyone whose signature a component of c accepts.
func (c Cluster) Authorities() []string {
	return []string{c.key("ca.crt"), c.key("etcd-ca.crt"), c.key("front-proxy-ca.crt"), c.Webhook.Authority}
}

// probe asks at address with the service's own certificate.
func (c Cluster) probe(address, ready, live string) Probe {
	authority, certificate := c.Credentials()
	return Probe{
		Ready: "https://" + address + ready, Live: "https://" + address + live,
		Authority: authority, Certificate: certificate,
		StartTimeout: startTimeout,
	}
}

// startTimeout is how long a component may take to become ready before it is started again. On
// a host that has just taken over all clusters start at once: ended for being slow, each would only
// begin anew, and none be ready ever. What cannot start mostly ends by itself.
const startTimeout = 10 * time.Minute

func loopback(port uint16) string {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String()
}

func nth(prefix netip.Prefix, n int) netip.Addr {
	addr := prefix.Masked().Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}

// option formats --name=value.
func option(name string, value any) string { return fmt.Sprintf("--%s=%v", name, value) }

// cipherSuites are what TLS 1.2 may use; TLS 1.3 has no choice to make.
const cipherSuites = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256," +
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384," +
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"

// serving are the flags with which a Kubernetes component serves HTTPS.
func (c Cluster) serving(address string, port uint16, leaf string) []string {
	return []string{
		option("bind-address", address),
		option("secure-port", strconv.Itoa(int(port))),
		option("tls-cert-file", c.key(leaf+".pem")),
		option("tls-private-key-file", c.key(leaf+".pem")),
		option("tls-min-version", "VersionTLS12"),
		option("tls-cipher-suites", cipherSuites),
	}
}

// delegated are the flags with which controller-manager and scheduler let the API server
// decide who may ask them.
func (c Cluster) delegated(kubeconfig string) []string {
	return []string{
		option("authentication-kubeconfig", kubeconfig),
		option("authorization-kubeconfig", kubeconfig),
		option("client-ca-file", c.key("ca.crt")),
		option("requestheader-client-ca-file", c.key("front-proxy-ca.crt")),
		option("requestheader-allowed-names", frontProxyClient),
	}
}

func join(lists ...[]string) []string { return slices.Concat(lists...) }
