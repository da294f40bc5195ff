package identity

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// KubeconfigPath is where kubelet looks for its kubeconfig.
const KubeconfigPath = "/var/lib/kubelet/kubeconfig"

// BootstrapPath is where kubelet looks for a way to a new certificate when its own has ended.
const BootstrapPath = "/var/lib/kubelet/bootstrap-kubeconfig"

// kubeletsName is what kubelet calls the cluster in the kubeconfig that it then writes.
const kubeletsName = "default-cluster"

// agentPath is where the image has the agent.
const agentPath = "/usr/bin/ovenbird-agent"

// Kubeconfig returns kubelet's kubeconfig for cluster. It holds no secret: the key is
// where kubelet renews it.
func Kubeconfig(cluster discover.Cluster) rootfs.File {
	return kubeconfig(KubeconfigPath, cluster, fmt.Sprintf(`    client-certificate: %[1]s
    client-key: %[1]s
`, currentPath))
}

// TokenKubeconfig returns kubelet's kubeconfig for cluster when it shows tokens: the agent
// makes each, for the STS of region at stsEndpoint. It says both, so that kubelet's tokens
// are the agent's own and need no environment.
func TokenKubeconfig(cluster discover.Cluster, region, stsEndpoint string) rootfs.File {
	return tokenKubeconfig(KubeconfigPath, cluster, region, stsEndpoint)
}

// BootstrapKubeconfig returns the kubeconfig by which kubelet asks for a certificate when
// its own has ended, as it does when the control plane was away for longer than it holds.
// It shows tokens, as the agent does for the first one.
func BootstrapKubeconfig(cluster discover.Cluster, region, stsEndpoint string) rootfs.File {
	return tokenKubeconfig(BootstrapPath, cluster, region, stsEndpoint)
}

func tokenKubeconfig(path string, cluster discover.Cluster, region, stsEndpoint string) rootfs.File {
	return kubeconfig(path, cluster, fmt.Sprintf(`    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: %s
      args:
      - token
      - --cluster
      - %q
      - --region
      - %q
      - --sts-endpoint
      - %q
      interactiveMode: Never
      provideClusterInfo: false
`, agentPath, cluster.Name, region, stsEndpoint))
}

func kubeconfig(path string, cluster discover.Cluster, user string) rootfs.File {
	return rootfs.File{Path: path, Mode: 0o600, Data: fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]q
  cluster:
    server: %[2]q
    certificate-authority-data: %[3]s
users:
- name: kubelet
  user:
%[4]scontexts:
- name: kubelet
  context:
    cluster: %[1]q
    user: kubelet
current-context: kubelet
`, cluster.Name, cluster.Endpoint, base64.StdEncoding.EncodeToString(cluster.CA), user)}
}

// ofThisCluster reads from the kubeconfig which cluster the identity on disk is for.
func (s Store) ofThisCluster() error {
	data, err := os.ReadFile(s.Root.Join(KubeconfigPath))
	if err != nil {
		return err
	}
	var kubeconfig struct {
		Clusters []struct {
			Name    string `json:"name"`
			Cluster struct {
				CA []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := yaml.Unmarshal(data, &kubeconfig); err != nil {
		return fmt.Errorf("read %s: %w", KubeconfigPath, err)
	}
	if len(kubeconfig.Clusters) != 1 || kubeconfig.Clusters[0].Name != s.Cluster.Name && kubeconfig.Clusters[0].Name != kubeletsName ||
		!bytes.Equal(kubeconfig.Clusters[0].Cluster.CA, s.Cluster.CA) {
		return errors.New("the node's identity is that of another cluster")
	}
	return nil
}
