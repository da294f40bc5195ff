package eks

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// anywhere is the only publicAccessCidrs on offer.
const anywhere = "0.0.0.0/0"

var (
	roleARN       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
	securityGroup = regexp.MustCompile(`^sg-[0-9a-f]+$`)
)

// createRequest is CreateCluster's body; unsupported.go holds the members that must be
// absent or say the default.
type createRequest struct {
	Name               string            `json:"name"`
	Version            string            `json:"version"`
	RoleARN            string            `json:"roleArn"`
	VPC                *createVPC        `json:"resourcesVpcConfig"`
	Network            createNetwork     `json:"kubernetesNetworkConfig"`
	Access             createAccess      `json:"accessConfig"`
	Logging            logging           `json:"logging"`
	DeletionProtection bool              `json:"deletionProtection"`
	Tags               map[string]string `json:"tags"`
	ClientRequestToken string            `json:"clientRequestToken"`
	unsupported
}

type createVPC struct {
	SubnetIDs             []string `json:"subnetIds"`
	SecurityGroupIDs      []string `json:"securityGroupIds"`
	EndpointPublicAccess  *bool    `json:"endpointPublicAccess"`
	EndpointPrivateAccess *bool    `json:"endpointPrivateAccess"`
	PublicAccessCIDRs     []string `json:"publicAccessCidrs"`
	EgressMode            string   `json:"controlPlaneEgressMode"`
}

type createNetwork struct {
	ServiceIPv4CIDR string `json:"serviceIpv4Cidr"`
	IPFamily        string `json:"ipFamily"`
	LoadBalancing   toggle `json:"elasticLoadBalancing"`
}

type createAccess struct {
	AuthenticationMode string `json:"authenticationMode"`
	CreatorIsAdmin     *bool  `json:"bootstrapClusterCreatorAdminPermissions"`
}

func (a *api) createCluster(ctx context.Context, r *http.Request) (any, error) {
	var request createRequest
	hash, err := readJSON(r, &request)
	if err != nil {
		return nil, err
	}
	if err := a.check(&request); err != nil {
		return nil, err
	}
	token := request.ClientRequestToken
	if earlier, found, err := a.earlierAnswer(ctx, request.Name, token, hash); err != nil || found {
		return earlier, err
	}
	placement, err := a.place(ctx, request)
	if err != nil {
		return nil, err
	}

	logs, err := request.Logging.apply(request.Name, nil)
	if err != nil {
		return nil, err
	}
	c := registry.Cluster{
		Name: request.Name, ARN: a.arn("cluster/" + request.Name), Version: request.Version, PlatformVersion: platformVersion,
		RoleARN: request.RoleARN, CreatedAt: a.Now().UTC(), CreatedBy: caller(ctx),
		SubnetIDs: request.VPC.SubnetIDs, SecurityGroupIDs: request.VPC.SecurityGroupIDs,
		VPCID: placement.vpcID, VPCCIDR: placement.vpcCIDR, ServiceCIDR: placement.serviceCIDR, PodCIDR: a.PodCIDR.String(),
		Tags:                 request.Tags,
		EndpointPublicAccess: isTrue(request.VPC.EndpointPublicAccess, true), EndpointPrivateAccess: isTrue(request.VPC.EndpointPrivateAccess, false),
		CreatorIsAdmin:     isTrue(request.Access.CreatorIsAdmin, true),
		AuthenticationMode: request.Access.AuthenticationMode, EnabledLogs: logs, DeletionProtection: request.DeletionProtection,
		ClientRequestToken: token, RequestHash: hash,
		Status: registry.Status{Phase: registry.PhaseCreating},
	}
	var entries []registry.AccessEntry
	if c.CreatorIsAdmin {
		entries = append(entries, a.newEntry(registry.AccessEntry{
			Cluster: c.Name, PrincipalARN: c.CreatedBy, Type: registry.TypeStandard, Policies: []registry.AssociatedPolicy{{ARN: a.policyARN(registry.ClusterAdminPolicy), AssociatedAt: c.CreatedAt, ModifiedAt: c.CreatedAt}},
		}))
	}
	created, err := a.Registry.Create(ctx, c, entries...)
	if errors.Is(err, registry.ErrExists) {
		// A retry may have overtaken the call that it repeats.
		if earlier, found, err := a.earlierAnswer(ctx, request.Name, token, hash); err != nil || found {
			return earlier, err
		}
		return nil, clusterExists(request.Name)
	}
	if err != nil {
		return nil, err
	}
	a.Log.Info("cluster is to be created", zap.String("cluster", c.Name), zap.String("version", c.Version), zap.String("caller", c.CreatedBy))
	return clusterAnswer{onTheWire(created)}, nil
}

func clusterExists(name string) error {
	return inUse(name, "Cluster already exists with name: %s", name)
}

// earlierAnswer looks for a cluster that an earlier call with the same token, or of the
// same name, has made. A repeated call gets that cluster; a token that comes back with
// another body, or a name that is taken, is an error.
func (a *api) earlierAnswer(ctx context.Context, name, token, hash string) (answer any, found bool, err error) {
	clusters, err := a.Registry.List(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, c := range clusters {
		switch sameToken := token != "" && c.ClientRequestToken == token; {
		case sameToken && c.RequestHash == hash:
			return clusterAnswer{onTheWire(c)}, true, nil
		case sameToken:
			return nil, false, tokenReused(name)
		}
	}
	if slices.ContainsFunc(clusters, func(c registry.Cluster) bool { return c.Name == name }) {
		return nil, false, clusterExists(name)
	}
	return nil, false, nil
}

// check refuses what the request says by itself, and fills in the default version.
func (a *api) check(request *createRequest) error {
	name := request.Name
	if !registry.ValidName(name) {
		return invalidParameter("", "name: %.120q must begin with a letter or digit and hold only letters, digits, hyphens and underscores, at most 100", name)
	}
	if request.Version == "" {
		request.Version = a.defaultVersion()
	}
	if !slices.Contains(a.Versions, request.Version) {
		return invalidParameter(name, "version: unsupported Kubernetes version %.20q: choose from %s", request.Version, strings.Join(a.Versions, ", "))
	}
	if !roleARN.MatchString(request.RoleARN) {
		return invalidParameter(name, "roleArn: %.200q is not the ARN of an IAM role", request.RoleARN)
	}
	switch mode := request.Access.AuthenticationMode; mode {
	case "":
		request.Access.AuthenticationMode = registry.ModeAPI
	case registry.ModeAPI, registry.ModeAPIAndConfigMap:
	default:
		return invalidParameter(name, "accessConfig.authenticationMode: %.40q is not offered: choose %s or %s", mode, registry.ModeAPI, registry.ModeAPIAndConfigMap)
	}
	if err := checkTags(name, request.Tags); err != nil {
		return err
	}
	if err := request.VPC.check(name); err != nil {
		return err
	}
	return request.checkUnsupported()
}

func (v *createVPC) check(name string) error {
	if v == nil {
		return invalidParameter(name, "resourcesVpcConfig is required")
	}
	subnets := slices.Compact(slices.Sorted(slices.Values(v.SubnetIDs)))
	if len(subnets) < 2 {
		return invalidParameter(name, "resourcesVpcConfig.subnetIds: at least two subnets are required")
	}
	if len(v.SubnetIDs) != len(subnets) {
		return invalidParameter(name, "resourcesVpcConfig.subnetIds: a subnet is given twice")
	}
	for _, id := range v.SecurityGroupIDs {
		if !securityGroup.MatchString(id) {
			return invalidParameter(name, "resourcesVpcConfig.securityGroupIds: %.40q is not a security group ID", id)
		}
	}
	if !isTrue(v.EndpointPublicAccess, true) && !isTrue(v.EndpointPrivateAccess, false) {
		return invalidParameter(name, "resourcesVpcConfig: private and public endpoint access cannot both be false")
	}
	if len(v.PublicAccessCIDRs) > 0 && !slices.Equal(v.PublicAccessCIDRs, []string{anywhere}) {
		return invalidParameter(name, "resourcesVpcConfig.publicAccessCidrs: only %s is offered yet: restrict access in the network", anywhere)
	}
	return nil
}

func isTrue(given *bool, otherwise bool) bool {
	if given == nil {
		return otherwise
	}
	return *given
}
