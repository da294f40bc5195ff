package eks

// unsupported are the members of CreateCluster that this service does not act on. One that
// asks for something is refused, so that nobody believes to have, say, encryption that is
// not there; one that only spells out the default passes, as some tools always send it.
type unsupported struct {
	BootstrapSelfManagedAddons *bool          `json:"bootstrapSelfManagedAddons"`
	Compute                    toggle         `json:"computeConfig"`
	ControlPlaneScaling        scaling        `json:"controlPlaneScalingConfig"`
	Encryption                 []any          `json:"encryptionConfig"`
	APIServer                  map[string]any `json:"kubeApiServerConfig"`
	ControllerManager          map[string]any `json:"kubeControllerManagerConfig"`
	Scheduler                  map[string]any `json:"kubeSchedulerConfig"`
	Outpost                    map[string]any `json:"outpostConfig"`
	RemoteNetwork              map[string]any `json:"remoteNetworkConfig"`
	Storage                    storage        `json:"storageConfig"`
	ZonalShift                 toggle         `json:"zonalShiftConfig"`
	UpgradePolicy              map[string]any `json:"upgradePolicy"` // no version's support ends by date, so both policies are kept
}

// toggle is a member with a switch; what else it holds matters only if it is on.
type toggle struct {
	Enabled bool `json:"enabled"`
}

type scaling struct {
	Tier string `json:"tier"`
}

type storage struct {
	BlockStorage toggle `json:"blockStorage"`
}

func (request *createRequest) checkUnsupported() error {
	u := request.unsupported
	for _, member := range []struct {
		name  string
		asked bool
	}{
		{"kubernetesNetworkConfig.ipFamily other than ipv4", request.Network.IPFamily != "" && request.Network.IPFamily != "ipv4"},
		{"kubernetesNetworkConfig.elasticLoadBalancing", request.Network.LoadBalancing.Enabled},
		{"bootstrapSelfManagedAddons=false", !isTrue(u.BootstrapSelfManagedAddons, true)},
		{"computeConfig", u.Compute.Enabled},
		{"controlPlaneScalingConfig", u.ControlPlaneScaling.Tier != "" && u.ControlPlaneScaling.Tier != "standard"},
		{"encryptionConfig", len(u.Encryption) > 0},
		{"kubeApiServerConfig", len(u.APIServer) > 0},
		{"kubeControllerManagerConfig", len(u.ControllerManager) > 0},
		{"kubeSchedulerConfig", len(u.Scheduler) > 0},
		{"outpostConfig", len(u.Outpost) > 0},
		{"remoteNetworkConfig", len(u.RemoteNetwork) > 0},
		{"storageConfig", u.Storage.BlockStorage.Enabled},
		{"resourcesVpcConfig.controlPlaneEgressMode", request.VPC.EgressMode != "" && request.VPC.EgressMode != "AWS_MANAGED"},
		{"zonalShiftConfig", u.ZonalShift.Enabled},
	} {
		if member.asked {
			return badRequest(request.Name, "%s is not offered yet by this service", member.name)
		}
	}
	return nil
}
