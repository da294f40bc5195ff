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

// Config has the shape of a NodeConfig of the public API, the fields that are not implemented yet
// included, so that those can be refused by name.
type Config struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Spec       Spec           `json:"spec"`
}

// Spec is what the node should be.
type Spec struct {
	Cluster      Cluster         `json:"cluster,omitempty"`
	Containerd   Containerd      `json:"containerd,omitempty"`
	Instance     Instance        `json:"instance,omitempty"`
	Kubelet      Kubelet         `json:"kubelet,omitempty"`
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
}

// InstanceIDNodeName is the feature gate by which a node has its instance's ID as its name.
const InstanceIDNodeName = "InstanceIdNodeName"

// Cluster says where the cluster is, in the words of the EKS API's DescribeCluster.
type Cluster struct {
	Name                 string `json:"name,omitempty"`
	APIServerEndpoint    string `json:"apiServerEndpoint,omitempty"`
	CertificateAuthority string `json:"certificateAuthority,omitempty"` // PEM in base64
	CIDR                 string `json:"cidr,omitempty"`                 // of services
	EnableOutpost        *bool  `json:"enableOutpost,omitempty"`
	ID                   string `json:"id,omitempty"` // read on an Outpost only
}

// Containerd changes containerd's configuration.
type Containerd struct {
	Config          string         `json:"config,omitempty"` // TOML, merged over the defaults
	BaseRuntimeSpec map[string]any `json:"baseRuntimeSpec,omitempty"`
}

// Kubelet changes kubelet's configuration.
type Kubelet struct {
	Config            map[string]any `json:"config,omitempty"` // KubeletConfiguration, merged over the defaults
	Flags             []string       `json:"flags,omitempty"`  // after the defaults, so that they win
	MaxPodsExpression string         `json:"maxPodsExpression,omitempty"`
}

// Instance changes the operating system and its devices.
type Instance struct {
	LocalStorage LocalStorage `json:"localStorage,omitempty"`
	Storage      Storage      `json:"storage,omitempty"`
	Environment  Environment  `json:"environment,omitempty"`
	Network      Network      `json:"network,omitempty"`
}

// LocalStorage says what to do with instance-store drives.
type LocalStorage struct {
	Strategy       string   `json:"strategy,omitempty"` // RAID0, RAID10 or Mount
	MountPath      string   `json:"mountPath,omitempty"`
	DisabledMounts []string `json:"disabledMounts,omitempty"` // Containerd, PodLogs
}

// Storage says what to do with attached volumes.
type Storage struct {
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

// Network changes name resolution.
type Network struct {
	Nameservers []string `json:"nameservers,omitempty"` // instead of those of the DHCP lease
	Domains     []string `json:"domains,omitempty"`     // to search, besides those of the lease
}
