package kubelet

import "time"

// Where things are on the node.
const (
	caPath         = "/etc/kubernetes/pki/ca.crt"
	configPath     = "/etc/kubernetes/kubelet/config.json"
	dropInDir      = "/etc/kubernetes/kubelet/config.json.d"
	userConfigPath = dropInDir + "/40-nodeadm.conf"
	environment    = "/etc/eks/kubelet/environment"
	kubeconfigPath = "/var/lib/kubelet/kubeconfig"
	bootstrapPath  = "/var/lib/kubelet/bootstrap-kubeconfig"

	containerdSocket = "unix:///run/containerd/containerd.sock"
	// systemd-resolved's /etc/resolv.conf names a stub on loopback, which no pod reaches.
	resolvConf = "/run/systemd/resolve/resolv.conf"
)

// config is the part of KubeletConfiguration that a node sets, in the order in which it
// is written. The upstream type would write its every zero value too; a test holds the
// one against the other.
type config struct {
	APIVersion                      string            `json:"apiVersion"`
	Kind                            string            `json:"kind"`
	Address                         string            `json:"address"`
	Authentication                  authentication    `json:"authentication"`
	Authorization                   authorization     `json:"authorization"`
	CgroupDriver                    string            `json:"cgroupDriver"`
	CgroupRoot                      string            `json:"cgroupRoot"`
	ClusterDNS                      []string          `json:"clusterDNS"`
	ClusterDomain                   string            `json:"clusterDomain"`
	ContainerRuntimeEndpoint        string            `json:"containerRuntimeEndpoint"`
	EnforceNodeAllocatable          []string          `json:"enforceNodeAllocatable"`
	EvictionHard                    map[string]string `json:"evictionHard"`
	FailSwapOn                      *bool             `json:"failSwapOn,omitempty"`
	FeatureGates                    map[string]bool   `json:"featureGates,omitempty"`
	HairpinMode                     string            `json:"hairpinMode"`
	KubeReserved                    map[string]string `json:"kubeReserved"`
	KubeReservedCgroup              string            `json:"kubeReservedCgroup"`
	Logging                         map[string]int    `json:"logging"`
	MaxPods                         int               `json:"maxPods"`
	PodPidsLimit                    int64             `json:"podPidsLimit"`
	ProtectKernelDefaults           bool              `json:"protectKernelDefaults"`
	ProviderID                      string            `json:"providerID"`
	ReadOnlyPort                    int               `json:"readOnlyPort"`
	ResolverConfig                  string            `json:"resolvConf"`
	RotateCertificates              bool              `json:"rotateCertificates"`
	SerializeImagePulls             bool              `json:"serializeImagePulls"`
	ServerTLSBootstrap              bool              `json:"serverTLSBootstrap"`
	ShutdownGracePeriod             string            `json:"shutdownGracePeriod,omitempty"`
	ShutdownGracePeriodCriticalPods string            `json:"shutdownGracePeriodCriticalPods,omitempty"`
	SystemReserved                  map[string]string `json:"systemReserved"`
	SystemReservedCgroup            string            `json:"systemReservedCgroup"`
	TLSCipherSuites                 []string          `json:"tlsCipherSuites"`
}

type authentication struct {
	Anonymous struct {
		Enabled bool `json:"enabled"`
	} `json:"anonymous"`
	Webhook struct {
		Enabled  bool   `json:"enabled"`
		CacheTTL string `json:"cacheTTL"`
	} `json:"webhook"`
	X509 struct {
		ClientCAFile string `json:"clientCAFile"`
	} `json:"x509"`
}

type authorization struct {
	Mode    string `json:"mode"`
	Webhook struct {
		CacheAuthorizedTTL   string `json:"cacheAuthorizedTTL"`
		CacheUnauthorizedTTL string `json:"cacheUnauthorizedTTL"`
	} `json:"webhook"`
}

// podPids keeps a pod that makes processes without end from taking the node's last process
// id, of 4194304. The largest pods have some thousands of threads.
const podPids = 16384

func duration(d time.Duration) string { return d.String() }

func newConfig(in Input, minor minor, maxPods int) config {
	c := config{
		APIVersion:               "kubelet.config.k8s.io/v1beta1",
		Kind:                     "KubeletConfiguration",
		Address:                  "0.0.0.0", // which to Go is every IPv6 address too
		CgroupDriver:             "systemd",
		CgroupRoot:               "/",
		ClusterDNS:               []string{in.ClusterDNS.String()},
		ClusterDomain:            "cluster.local",
		ContainerRuntimeEndpoint: containerdSocket,
		// The kernel holds all pods together to what is reserved for nobody. Kubelet's own
		// evictions look every ten seconds, which a leak does not wait for.
		EnforceNodeAllocatable: []string{"pods"},
		EvictionHard: map[string]string{
			"memory.available":  mebibytes(evictionMemory),
			"nodefs.available":  "10%",
			"nodefs.inodesFree": "5%",
		},
		HairpinMode:           "hairpin-veth",
		KubeReserved:          kubeReserved(in.CPUs, in.MemoryMiB, maxPods),
		KubeReservedCgroup:    "/runtime",
		Logging:               map[string]int{"verbosity": 2},
		MaxPods:               maxPods,
		PodPidsLimit:          podPids,
		ProtectKernelDefaults: true,
		ProviderID:            in.ProviderID,
		ResolverConfig:        resolvConf,
		// With it, kubelet drops the exec plugin of its kubeconfig (buildKubeletClientConfig).
		RotateCertificates:   !in.Tokens,
		ServerTLSBootstrap:   true,
		SystemReserved:       systemReserved(),
		SystemReservedCgroup: "/system",
		// Perfect forward secrecy and authenticated encryption only.
		TLSCipherSuites: []string{
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
			"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
			"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
			"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
			"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
			"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
		},
	}
	c.Authentication.Webhook.Enabled = true
	c.Authentication.Webhook.CacheTTL = duration(2 * time.Minute)
	c.Authentication.X509.ClientCAFile = caPath
	c.Authorization.Mode = "Webhook"
	c.Authorization.Webhook.CacheAuthorizedTTL = duration(5 * time.Minute)
	c.Authorization.Webhook.CacheUnauthorizedTTL = duration(30 * time.Second)
	if WantsSwap(in.UserConfig) {
		c.FailSwapOn = new(false)
	}
	c.forMinor(minor)
	return c
}

// WantsSwap tells whether pods may swap by the user's kubelet configuration.
func WantsSwap(userConfig map[string]any) bool {
	swap, _ := userConfig["memorySwap"].(map[string]any)
	return swap["swapBehavior"] == "LimitedSwap"
}
