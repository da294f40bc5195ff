package eks

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// cluster is a cluster on the wire.
type cluster struct {
	Name                    string                  `json:"name"`
	ARN                     string                  `json:"arn"`
	CreatedAt               epoch                   `json:"createdAt"`
	Version                 string                  `json:"version"`
	Endpoint                string                  `json:"endpoint,omitempty"`
	RoleARN                 string                  `json:"roleArn"`
	VPC                     vpcConfig               `json:"resourcesVpcConfig"`
	KubernetesNetworkConfig kubernetesNetworkConfig `json:"kubernetesNetworkConfig"`
	Status                  string                  `json:"status"`
	CertificateAuthority    certificate             `json:"certificateAuthority"`
	ClientRequestToken      string                  `json:"clientRequestToken,omitempty"`
	PlatformVersion         string                  `json:"platformVersion"`
	Tags                    map[string]string       `json:"tags"`
	Health                  health                  `json:"health"`
	AccessConfig            accessConfig            `json:"accessConfig"`
	Logging                 logging                 `json:"logging"`
	DeletionProtection      bool                    `json:"deletionProtection"`
	Identity                *identity               `json:"identity,omitempty"`
}

type identity struct {
	OIDC oidcIdentity `json:"oidc"`
}

type oidcIdentity struct {
	Issuer string `json:"issuer"`
}

type vpcConfig struct {
	SubnetIDs             []string `json:"subnetIds"`
	SecurityGroupIDs      []string `json:"securityGroupIds"`
	VPCID                 string   `json:"vpcId"`
	EndpointPublicAccess  bool     `json:"endpointPublicAccess"`
	EndpointPrivateAccess bool     `json:"endpointPrivateAccess"`
	PublicAccessCIDRs     []string `json:"publicAccessCidrs"`
}

type kubernetesNetworkConfig struct {
	ServiceIPv4CIDR string `json:"serviceIpv4Cidr"`
	IPFamily        string `json:"ipFamily"`
}

type certificate struct {
	Data string `json:"data,omitempty"` // base64 of PEM
}

type health struct {
	Issues []issue `json:"issues"`
}

type issue struct {
	Code        string   `json:"code"`
	Message     string   `json:"message"`
	ResourceIDs []string `json:"resourceIds"`
}

type accessConfig struct {
	AuthenticationMode                      string `json:"authenticationMode"`
	BootstrapClusterCreatorAdminPermissions bool   `json:"bootstrapClusterCreatorAdminPermissions"`
}

// epoch is a time as EKS writes it: seconds since 1970, with a fraction.
type epoch time.Time

func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(e).UnixMilli())/1000, 'f', -1, 64), nil
}

// onTheWire shows a cluster as DescribeCluster does.
func onTheWire(c registry.Cluster) cluster {
	shown := cluster{
		Name: c.Name, ARN: c.ARN, CreatedAt: epoch(c.CreatedAt), Version: c.Version, RoleARN: c.RoleARN,
		Endpoint: c.Status.Endpoint, PlatformVersion: c.PlatformVersion, ClientRequestToken: c.ClientRequestToken,
		VPC: vpcConfig{
			SubnetIDs: orEmpty(c.SubnetIDs), SecurityGroupIDs: orEmpty(c.SecurityGroupIDs), VPCID: c.VPCID,
			EndpointPublicAccess: c.EndpointPublicAccess, EndpointPrivateAccess: c.EndpointPrivateAccess, PublicAccessCIDRs: []string{},
		},
		KubernetesNetworkConfig: kubernetesNetworkConfig{ServiceIPv4CIDR: c.ServiceCIDR, IPFamily: "ipv4"},
		Status:                  status(c),
		Tags:                    c.Tags,
		Health:                  health{Issues: []issue{}},
		AccessConfig:            accessConfig{AuthenticationMode: authenticationMode(c), BootstrapClusterCreatorAdminPermissions: c.CreatorIsAdmin},
		Logging:                 loggingOnTheWire(c.EnabledLogs),
		DeletionProtection:      c.DeletionProtection,
	}
	if c.EndpointPublicAccess {
		shown.VPC.PublicAccessCIDRs = []string{anywhere}
	}
	if len(c.Status.CertificateAuthority) > 0 {
		shown.CertificateAuthority.Data = base64.StdEncoding.EncodeToString(c.Status.CertificateAuthority)
	}
	if c.Issuer != "" {
		shown.Identity = &identity{oidcIdentity{c.Issuer}}
	}
	if shown.Tags == nil {
		shown.Tags = map[string]string{}
	}
	if c.Status.Message != "" {
		shown.Health.Issues = []issue{{Code: "Other", Message: c.Status.Message, ResourceIDs: []string{c.Name}}}
	}
	return shown
}

func status(c registry.Cluster) string {
	switch {
	case c.Deleting:
		return registry.PhaseDeleting
	case c.Status.Phase == "", c.Status.Phase == registry.PhaseRestoring:
		return registry.PhaseCreating
	case c.Status.Phase == registry.PhaseActive && c.UpdateID != "":
		return registry.PhaseUpdating
	}
	return c.Status.Phase
}

func authenticationMode(c registry.Cluster) string {
	return cmp.Or(c.AuthenticationMode, registry.ModeAPI)
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller is gone if this fails
}

// readJSON decodes the body, whose size the verifier bounds, and returns a hash of what it
// asks for. AWS ignores members that it does not know; so does this.
func readJSON(r *http.Request, into any) (hash string, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", fmt.Errorf("read request body: %w", err)
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return "", invalidParameter("", "The request body is not a JSON object")
	}
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(body, into); errors.As(err, &wrongType) {
		return "", invalidParameter("", "%s must be a %s, not a %s", wrongType.Field, wrongType.Type, wrongType.Value)
	} else if err != nil {
		return "", invalidParameter("", "The request body cannot be read: %v", err)
	}
	// A repeated call has the same token, so the token says nothing about the rest.
	delete(members, "clientRequestToken")
	canonical, err := json.Marshal(members) // with sorted keys
	if err != nil {
		return "", fmt.Errorf("encode request body: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// page cuts the sorted names to the page that the query asks for. A nextToken holds the
// last name of the page before, so it stays good while others come and go.
func page(names []string, query url.Values) (shown []string, nextToken string, err error) {
	limit := 100
	if s := query.Get("maxResults"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 100 {
			return nil, "", invalidParameter("", "maxResults must be between 1 and 100, not %q", s)
		}
	}
	start := 0
	if token := query.Get("nextToken"); token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, "", invalidParameter("", "nextToken is not one that this service gave")
		}
		for start < len(names) && names[start] <= string(last) {
			start++
		}
	}
	end := min(start+limit, len(names))
	if end < len(names) {
		nextToken = base64.RawURLEncoding.EncodeToString([]byte(names[end-1]))
	}
	return orEmpty(names[start:end]), nextToken, nil
}
