// Package nodeconfig reads an instance's user-data: NodeConfig documents of the public API
// node.eks.aws/v1alpha1, and the certificate authorities and scripts that come with them. Reading is
// strict: a field that the API does not have, a value of the wrong type and a feature that
// is not there yet are errors which name the part, the line and the field, never silence. Nothing
// here looks at the machine or calls anyone.
package nodeconfig

// APIVersion and Kind mark a NodeConfig document.
const (
	APIVersion = "node.eks.aws/v1alpha1"
	Kind       = "NodeConfig"
)

//go:generate go run ./reference ../../docs/nodeconfig.md

// Config has the shape of a NodeConfig of the public API, the fields that are not implemented yet
// included, so that those can be refused by name. The comments on fields are the reference's
// text too: a sentence that begins with "Default:" and a last line "Example:", a value in YAML,
// have places of their own there.
type Config struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Spec       Spec           `json:"spec"`
}

// Spec is what the node should be.
type Spec struct {
	Cluster    Cluster    `json:"cluster,omitempty"`
	Containerd Containerd `json:"containerd,omitempty"`
	Instance   Instance   `json:"instance,omitempty"`
	Kubelet    Kubelet    `json:"kubelet,omitempty"`
	// FeatureGates are on or off by name. InstanceIdNodeName makes the instance's ID the node's
	// name; any other that is on is a warning and has no effect. Default: all off.
	// Example: {InstanceIdNodeName: true}
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
}

// InstanceIDNodeName is the feature gate by which a node has its instance's ID as its name.
const InstanceIDNodeName = "InstanceIdNodeName"

// Cluster says where the cluster is, in the words of the EKS API's DescribeCluster. With the
// name alone, or nothing, the agent asks that API; apiServerEndpoint, certificateAuthority and
// cidr come together or not at all.
type Cluster struct {
	// Name is the cluster's. Default: the value of the instance's tag ovenbird.dev-cluster, or else
	// eks:cluster-name.
	// Example: demo
	Name string `json:"name,omitempty"`
	// APIServerEndpoint is the URL of the API server. Default: as EKS describes the cluster.
	// Example: https://10.0.0.10:6443
	APIServerEndpoint string `json:"apiServerEndpoint,omitempty"`
	// CertificateAuthority signs the API server's certificate: certificates in PEM, in base64.
	// Default: as EKS describes the cluster.
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
	// CIDR is the addresses of services, IPv4 or IPv6. The tenth is the cluster's DNS server, and
	// their kind is that of the node's address. Default: as EKS describes the cluster.
	// Example: 10.100.0.0/16
	CIDR string `json:"cidr,omitempty"`
	// EnableOutpost is for clusters on an Outpost: not supported, false may be said.
	// Example: false
	EnableOutpost *bool `json:"enableOutpost,omitempty"`
	// ID is that of a cluster on an Outpost, and not used.
	// Example: 0123abcd-0123-0123-0123-0123456789ab
	ID string `json:"id,omitempty"`
}

// Containerd changes containerd's configuration.
type Containerd struct {
	// Config is TOML, which containerd merges over the agent's. Several NodeConfigs are merged
	// table by table, and must have the same version.
	// Example: oom_score = -500
	Config string `json:"config,omitempty"`
	// BaseRuntimeSpec is merged over the OCI runtime specification that every container starts
	// from.
	// Example: {process: {rlimits: [{type: RLIMIT_NOFILE, soft: 1024, hard: 1024}]}}
	BaseRuntimeSpec map[string]any `json:"baseRuntimeSpec,omitempty"`
}

// Kubelet changes kubelet's configuration.
type Kubelet struct {
	// Config is a KubeletConfiguration (kubelet.config.k8s.io/v1beta1), which kubelet merges over
	// the agent's. A wrong type is an error, a field that kubelet does not have a warning.
	// Example: {maxPods: 40, evictionHard: {memory.available: 200Mi}}
	Config map[string]any `json:"config,omitempty"`
	// Flags stand after the agent's own, so that they win. Several NodeConfigs add up.
	// Example: [--node-labels=team=blue]
	Flags []string `json:"flags,omitempty"`
	// MaxPodsExpression computes the number of pods, in the Common Expression Language, from
	// default_enis, ips_per_eni and max_pods. maxPods in config, and the flag, win over it.
	// Example: (default_enis - 1) * (ips_per_eni - 1) + 2
	MaxPodsExpression string `json:"maxPodsExpression,omitempty"`
}

// Instance changes the operating system and its devices.
type Instance struct {
	LocalStorage LocalStorage `json:"localStorage,omitempty"`
	Storage      Storage      `json:"storage,omitempty"`
	// Environment holds environment variables by who gets them: default (every service, and the
	// agent's own calls), systemd_kubelet, systemd_containerd.
	// Example: {default: {HTTPS_PROXY: "http://10.0.0.5:3128"}}
	Environment Environment `json:"environment,omitempty"`
	Network     Network     `json:"network,omitempty"`
}

// LocalStorage says what to do with the instance-store drives.
type LocalStorage struct {
	// Strategy is RAID0 or RAID10, which make one file system of all drives for containerd, kubelet
	// and the logs of pods, or Mount, which gives each drive a file system of its own. Default: the
	// drives are left alone.
	// Example: RAID0
	Strategy string `json:"strategy,omitempty"`
	// MountPath is the directory in which the file systems are mounted. Default: /mnt/k8s-disks.
	// Example: /mnt/k8s-disks
	MountPath string `json:"mountPath,omitempty"`
	// DisabledMounts are what stays on the root volume with RAID0 and RAID10: Containerd, PodLogs.
	// Example: [PodLogs]
	DisabledMounts []string `json:"disabledMounts,omitempty"`
}

// Storage says what to do with attached volumes.
type Storage struct {
	// Volumes are EBS volumes to format and mount: not supported.
	Volumes []map[string]any `json:"volumes,omitempty"`
}

// Environment holds environment variables by who gets them: EnvironmentDefault,
// EnvironmentKubelet or EnvironmentContainerd.
type Environment map[string]map[string]string

// The keys of Environment.
const (
	EnvironmentDefault    = "default" // every service, and the agent's own AWS calls
	EnvironmentKubelet    = "systemd_kubelet"
	EnvironmentContainerd = "systemd_containerd"
)

// Network changes name resolution, by systemd-resolved.
type Network struct {
	// Nameservers are asked before those of the DHCP lease.
	// Example: [10.0.0.2]
	Nameservers []string `json:"nameservers,omitempty"`
	// Domains are searched besides those of the lease.
	// Example: [corp.example]
	Domains []string `json:"domains,omitempty"`
}
