package eks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// updateConfigRequest is UpdateClusterConfig's body. It may hold one change.
type updateConfigRequest struct {
	Access             *updateAccess `json:"accessConfig"`
	DeletionProtection *bool         `json:"deletionProtection"`
	Logging            *logging      `json:"logging"`
	VPC                *updateVPC    `json:"resourcesVpcConfig"`
	ClientRequestToken string        `json:"clientRequestToken"`
	unchangeable
}

type updateAccess struct {
	AuthenticationMode string `json:"authenticationMode"`
}

type updateVPC struct {
	EndpointPublicAccess  *bool    `json:"endpointPublicAccess"`
	EndpointPrivateAccess *bool    `json:"endpointPrivateAccess"`
	PublicAccessCIDRs     []string `json:"publicAccessCidrs"`
	SubnetIDs             []string `json:"subnetIds"`
	SecurityGroupIDs      []string `json:"securityGroupIds"`
	EgressMode            string   `json:"controlPlaneEgressMode"`
}

// unchangeable are the members of UpdateClusterConfig that this service does not act on.
type unchangeable struct {
	Compute             json.RawMessage `json:"computeConfig"`
	ControlPlaneScaling json.RawMessage `json:"controlPlaneScalingConfig"`
	APIServer           json.RawMessage `json:"kubeApiServerConfig"`
	ControllerManager   json.RawMessage `json:"kubeControllerManagerConfig"`
	Scheduler           json.RawMessage `json:"kubeSchedulerConfig"`
	Network             json.RawMessage `json:"kubernetesNetworkConfig"`
	RemoteNetwork       json.RawMessage `json:"remoteNetworkConfig"`
	Storage             json.RawMessage `json:"storageConfig"`
	UpgradePolicy       json.RawMessage `json:"upgradePolicy"`
	ZonalShift          json.RawMessage `json:"zonalShiftConfig"`
}

func (u unchangeable) check(name string) error {
	for _, member := range []struct {
		name  string
		given json.RawMessage
	}{
		{"computeConfig", u.Compute}, {"controlPlaneScalingConfig", u.ControlPlaneScaling}, {"kubeApiServerConfig", u.APIServer},
		{"kubeControllerManagerConfig", u.ControllerManager}, {"kubeSchedulerConfig", u.Scheduler}, {"kubernetesNetworkConfig", u.Network},
		{"remoteNetworkConfig", u.RemoteNetwork}, {"storageConfig", u.Storage}, {"upgradePolicy", u.UpgradePolicy}, {"zonalShiftConfig", u.ZonalShift},
	} {
		if len(member.given) > 0 && string(member.given) != "null" {
			return badRequest(name, "%s cannot be updated: it is not offered yet by this service", member.name)
		}
	}
	return nil
}

// settingChange is one kind of update, and what it does to a cluster.
type settingChange struct {
	kind   string // the type of the update
	params []registry.UpdateParam
	apply  func(*registry.Cluster) error
}

// change returns the one change that the request holds.
func (request *updateConfigRequest) change(name string) (settingChange, error) {
	if err := request.check(name); err != nil {
		return settingChange{}, err
	}
	var changes []settingChange
	if l := request.Logging; l != nil {
		value, err := json.Marshal(l)
		if err != nil {
			return settingChange{}, fmt.Errorf("encode logging: %w", err)
		}
		changes = append(changes, settingChange{"LoggingUpdate", []registry.UpdateParam{{Type: "ClusterLogging", Value: string(value)}}, l.change})
	}
	if access := request.Access; access != nil {
		mode := access.AuthenticationMode
		changes = append(changes, settingChange{"AccessConfigUpdate", []registry.UpdateParam{{Type: "AuthenticationMode", Value: mode}}, access.change})
	}
	if on := request.DeletionProtection; on != nil {
		changes = append(changes, settingChange{"DeletionProtectionUpdate", []registry.UpdateParam{{Type: "DeletionProtection", Value: strconv.FormatBool(*on)}},
			func(c *registry.Cluster) error {
				if c.DeletionProtection == *on {
					return invalidParameter(name, "No changes needed for the deletion protection provided")
				}
				c.DeletionProtection = *on
				return nil
			}})
	}
	if request.VPC != nil {
		changes = append(changes, settingChange{"EndpointAccessUpdate", nil, request.VPC.change})
	}
	switch len(changes) {
	case 0:
		return settingChange{}, invalidParameter(name, "No changes were given: name one of logging, accessConfig, deletionProtection, resourcesVpcConfig")
	case 1:
		return changes[0], nil
	}
	return settingChange{}, invalidParameter(name, "Only one type of update can be allowed.")
}

func (l *logging) change(c *registry.Cluster) error {
	after, err := l.apply(c.Name, c.EnabledLogs)
	if err != nil {
		return err
	}
	if slices.Equal(after, c.EnabledLogs) {
		return invalidParameter(c.Name, "No changes needed for the logging config provided")
	}
	c.EnabledLogs = after
	return nil
}

// change goes from access entries beside the ConfigMap to access entries alone, as EKS
// does: never back.
func (u *updateAccess) change(c *registry.Cluster) error {
	if now := authenticationMode(*c); now != registry.ModeAPIAndConfigMap || u.AuthenticationMode != registry.ModeAPI {
		return invalidParameter(c.Name, "Unsupported authentication mode update from %s to %.40s", now, u.AuthenticationMode)
	}
	c.AuthenticationMode = registry.ModeAPI
	return nil
}

// change finds only reasons to refuse: EKS does not accept what is already so, and this
// service has one way for all to reach an endpoint.
func (v *updateVPC) change(c *registry.Cluster) error {
	if len(v.SubnetIDs) > 0 || len(v.SecurityGroupIDs) > 0 || v.EgressMode != "" {
		return badRequest(c.Name, "resourcesVpcConfig: another network cannot be chosen yet: only its endpoint access can be named")
	}
	public, private := isTrue(v.EndpointPublicAccess, c.EndpointPublicAccess), isTrue(v.EndpointPrivateAccess, c.EndpointPrivateAccess)
	restricted := len(v.PublicAccessCIDRs) > 0 && !slices.Equal(v.PublicAccessCIDRs, []string{anywhere})
	if !restricted && public == c.EndpointPublicAccess && private == c.EndpointPrivateAccess {
		return invalidParameter(c.Name, "Cluster is already at the desired configuration with endpointPrivateAccess: %t , endpointPublicAccess: %t, and Public Endpoint Restrictions: [%s]", private, public, anywhere)
	}
	return badRequest(c.Name, "resourcesVpcConfig: endpoint access cannot be changed yet: restrict access in the network")
}
