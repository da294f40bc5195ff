package component

import (
	"fmt"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

func (c Cluster) controllerManager() Component {
	config := c.file(ControllerManager + ".kubeconfig")
	args := join(c.serving("127.0.0.1", c.Local.ControllerManager, ControllerManager), c.delegated(config), []string{
		option("kubeconfig", config),
		option("use-service-account-credentials", true),
		option("service-account-private-key-file", c.key(serviceAccountKey+".key")),
		option("root-ca-file", c.key("ca.crt")),

		// That controller signs whatever an administrator files for any node; the service's
		// own approver looks at the instance first.
		option("controllers", "*,-certificatesigningrequest-approving-controller"),
		option("cluster-signing-cert-file", c.key("ca.crt")),
		option("cluster-signing-key-file", c.key("ca.key")),
		// The most that any request gets, whatever its expirationSeconds; kubelet renews in time.
		option("cluster-signing-duration", pki.NodeLifetime),

		option("allocate-node-cidrs", true),
		option("cluster-cidr", c.PodCIDR),
		option("node-cidr-mask-size", nodeMask),
		option("service-cluster-ip-range", c.ServiceCIDR),
		option("cluster-name", c.Name),

		// One process is all there is, and its runtime sees to that. With election, a start
		// after a crash would first wait for the dead one's lease to run out.
		option("leader-elect", false),
		option("profiling", false),
	})
	listen := loopback(c.Local.ControllerManager)
	return Component{
		Name: ControllerManager, Version: c.Release.Kubernetes, Path: c.program(ControllerManager), Args: args, Trust: c.Trust,
		Files:     []File{{config, 0o600, c.clientConfig(ControllerManager)}},
		Ports:     []Port{{"https", listen}},
		Probe:     c.probe(listen, "/healthz", "/healthz"),
		DependsOn: []string{APIServer},
	}
}

// nodeMask is the size of a node's share of the pod network: 254 pods, and 256 nodes in a /16.
const nodeMask = 24

func (c Cluster) scheduler() Component {
	client, config := c.file(Scheduler+".kubeconfig"), c.file(Scheduler+".yaml")
	args := join(c.serving("127.0.0.1", c.Local.Scheduler, Scheduler), c.delegated(client), []string{
		option("config", config),
	})
	listen := loopback(c.Local.Scheduler)
	return Component{
		Name: Scheduler, Version: c.Release.Kubernetes, Path: c.program(Scheduler), Args: args, Trust: c.Trust,
		Files: []File{
			{client, 0o600, c.clientConfig(Scheduler)},
			{config, 0o600, schedulerConfig(client)},
		},
		Ports:     []Port{{"https", listen}},
		Probe:     c.probe(listen, "/readyz", "/livez"),
		DependsOn: []string{APIServer},
	}
}

// schedulerConfig takes the place of flags that upstream has deprecated. Leader election
// is off for the same reason as controller-manager's.
func schedulerConfig(client string) []byte {
	return fmt.Appendf(nil, `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: %q
leaderElection:
  leaderElect: false
enableProfiling: false
`, client)
}

func (c Cluster) clientConfig(leaf string) []byte {
	return kubeconfig(c.Endpoint(), c.key("ca.crt"), c.key(leaf+".pem"))
}
