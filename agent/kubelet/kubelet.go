// Package kubelet computes kubelet's files: what Amazon's node agent writes, where its
// users' scripts look for it, and better where they say that it is wrong: memory is
// reserved for the pods that the node really takes. It decides only; it writes nothing and
// starts nothing.
package kubelet

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Input is all that kubelet's files depend on.
type Input struct {
	Minor        int // of Kubernetes: 37 for 1.37.2
	NodeName     string
	NodeIP       netip.Addr
	ProviderID   string
	InstanceType string
	Region, Zone string
	CPUs         int
	MemoryMiB    int    // of the machine, less what the kernel took for itself; 0: not known
	ClusterCA    []byte // PEM
	ClusterDNS   netip.Addr
	// Tokens: kubelet shows tokens of an exec plugin and has no certificate to renew.
	Tokens bool
	// CloudController: one runs in the cluster and finishes the Node.
	CloudController bool
	UserConfig      map[string]any // spec.kubelet.config
	UserFlags       []string       // spec.kubelet.flags
	// MaxPodsExpression is spec.kubelet.maxPodsExpression.
	MaxPodsExpression string
	FromTags          FromTags // what the user says wins
}

// Files returns kubelet's files. The user's part is a drop-in, which kubelet merges over
// its main file; it must not exist when the user has none.
func Files(in Input) ([]rootfs.File, error) {
	minor, err := minorOf(in.Minor)
	if err != nil {
		return nil, err
	}
	pods, err := maxPods(in)
	if err != nil {
		return nil, err
	}
	main, err := encode(newConfig(in, minor, pods))
	if err != nil {
		return nil, fmt.Errorf("encode kubelet's configuration: %w", err)
	}
	var user []byte
	if len(in.UserConfig) > 0 {
		// kubelet refuses a drop-in that does not say what it is.
		dropIn := map[string]any{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
		maps.Copy(dropIn, in.UserConfig)
		if user, err = encode(dropIn); err != nil {
			return nil, fmt.Errorf("encode the user's kubelet configuration: %w", err)
		}
	}
	return append([]rootfs.File{
		{Path: caPath, Data: in.ClusterCA},
		{Path: configPath, Data: main},
		{Path: userConfigPath, Data: user},
		{Path: environment, Data: []byte("NODEADM_KUBELET_ARGS=" + quote(strings.Join(flags(in), " ")) + "\n")},
	}, providerFiles()...), nil
}

// flags returns kubelet's flags, the user's last, so that they win. The taint that comes
// with --cloud-provider would stay for ever on a cluster without a cloud controller, so the
// node itself says what one would say about it.
func flags(in Input) []string {
	var flags []string
	if in.CloudController {
		flags = append(flags, "--cloud-provider=external")
	}
	if !in.Tokens {
		flags = append(flags, "--bootstrap-kubeconfig="+bootstrapPath)
	}
	flags = append(flags,
		"--config="+configPath,
		"--hostname-override="+in.NodeName,
		"--image-credential-provider-bin-dir="+providerDir,
		"--image-credential-provider-config="+providerConfigPath,
		"--kubeconfig="+kubeconfigPath,
		"--node-ip="+in.NodeIP.String(),
		// kubelet adds up all flags of this name, the last value of a key winning.
		"--node-labels="+strings.Join(append([]string{
			"node.kubernetes.io/instance-type=" + in.InstanceType,
			"topology.kubernetes.io/region=" + in.Region,
			"topology.kubernetes.io/zone=" + in.Zone,
		}, in.FromTags.labels...), ","),
		"--runtime-cgroups=/runtime.slice/containerd.service",
	)
	if len(in.UserConfig) > 0 {
		flags = append(flags, "--config-dir="+dropInDir)
	}
	return append(append(flags, in.UserFlags...), taintFlags(in)...)
}

// quote writes a value for an EnvironmentFile, by systemd.exec(5).
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(value) + `"`
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}
