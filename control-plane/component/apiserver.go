package component

import (
	"fmt"

	"github.com/ovenbird-dev/ovenbird/control-plane/oidc"
)

func (c Cluster) apiServer() Component {
	address := c.Address.String()
	webhook, encryption := c.file("token-webhook.kubeconfig"), c.file("encryption.yaml")
	audit, auditFiles := c.audit()
	args := join(c.serving(address, c.Port, "apiserver"), audit, []string{
		option("advertise-address", address),
		option("endpoint-reconciler-type", c.endpointReconciler()),

		option("etcd-servers", "https://"+loopback(c.Local.Etcd)),
		option("etcd-cafile", c.key("etcd-ca.crt")),
		option("etcd-certfile", c.key("etcd-client.pem")),
		option("etcd-keyfile", c.key("etcd-client.pem")),
		option("encryption-provider-config", encryption),

		option("anonymous-auth", false),
		option("client-ca-file", c.key("ca.crt")),
		option("authentication-token-webhook-config-file", webhook),
		option("authentication-token-webhook-version", "v1"),
		// The default of two minutes is how long a revoked access entry would still open doors.
		option("authentication-token-webhook-cache-ttl", "10s"),
		option("authorization-mode", "Node,RBAC"),
		option("enable-admission-plugins", "NodeRestriction"),
		// kube-proxy needs it, and RBAC with pod security decides who else may.
		option("allow-privileged", true),

		option("service-account-key-file", c.key(serviceAccountKey+".pub")),
		option("service-account-signing-key-file", c.key(serviceAccountKey+".key")),
		option("service-cluster-ip-range", c.ServiceCIDR),

		option("kubelet-certificate-authority", c.key("ca.crt")),
		option("kubelet-client-certificate", c.key(kubeletClient+".pem")),
		option("kubelet-client-key", c.key(kubeletClient+".pem")),
		// A node's name need not resolve where the control plane runs; its address is routed.
		option("kubelet-preferred-address-types", "InternalIP"),

		option("requestheader-client-ca-file", c.key("front-proxy-ca.crt")),
		option("requestheader-allowed-names", frontProxyClient),
		option("requestheader-username-headers", "X-Remote-User"),
		option("requestheader-group-headers", "X-Remote-Group"),
		option("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
		option("proxy-client-cert-file", c.key(frontProxyClient+".pem")),
		option("proxy-client-key-file", c.key(frontProxyClient+".pem")),

		option("profiling", false),
		// On SIGTERM, send watchers away instead of waiting up to a minute for them to go.
		option("shutdown-send-retry-after", true),
	}, c.issuers())
	listen := c.Endpoint()[len("https://"):]
	return Component{
		Name: APIServer, Version: c.Release.Kubernetes, Path: c.program(APIServer), Args: args, Trust: c.Trust,
		Files: append([]File{
			{webhook, 0o600, kubeconfig(c.Webhook.URL, c.Webhook.Authority, c.key(webhookClient+".pem"))},
			{encryption, 0o600, encryptionConfig(c.EncryptionKey)},
		}, auditFiles...),
		Ports: []Port{{"https", listen}},
		// A restart of the API server would not help an etcd that is down.
		Probe:     c.probe(listen, "/readyz", "/livez?exclude=etcd"),
		DependsOn: []string{Etcd},
	}
}

// issuers names who signs service account tokens. Only the first signs; tokens of the
// second, from before the cluster had an issuer of its own, stay good.
func (c Cluster) issuers() []string {
	endpoint := option("service-account-issuer", c.Endpoint())
	if c.Issuer == "" {
		return []string{endpoint, option("service-account-jwks-uri", c.Endpoint()+"/openid/v1/jwks")}
	}
	return []string{option("service-account-issuer", c.Issuer), endpoint, option("service-account-jwks-uri", oidc.KeysURL(c.Issuer))}
}

// endpointReconciler says how the API server publishes itself as the Service "kubernetes".
// Kubernetes refuses loopback addresses as endpoints, and no pod could reach one.
func (c Cluster) endpointReconciler() string {
	if c.Address.IsLoopback() {
		return "none"
	}
	return "lease"
}

// kubeconfig connects to server with a certificate. It names files instead of holding
// their content, so that clients pick a renewed certificate up by themselves.
func kubeconfig(server, authority, certificate string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster:
    server: %q
    certificate-authority: %q
users:
- name: user
  user:
    client-certificate: %q
    client-key: %q
contexts:
- name: context
  context:
    cluster: cluster
    user: user
current-context: context
`, server, authority, certificate, certificate)
}

// encryptionConfig encrypts Secrets in etcd; identity comes last, for what was written
// before there was a key.
func encryptionConfig(key string) []byte {
	return fmt.Appendf(nil, `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - secretbox:
      keys:
      - name: key1
        secret: %q
  - identity: {}
`, key)
}
