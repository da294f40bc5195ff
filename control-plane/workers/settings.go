package workers

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// The parameters of the template that this package fills in.
const (
	ClusterName            = "ClusterName"
	clusterType            = "ClusterType"
	clusterEndpoint        = "ClusterEndpoint"
	clusterAuthority       = "ClusterCertificateAuthority"
	clusterServiceCIDR     = "ClusterServiceCidr"
	clusterSecurityGroupID = "ClusterSecurityGroupId"
	additionalGroupIDs     = "AdditionalSecurityGroupIds"
	controlPlaneCIDR       = "ControlPlaneCidr"
	apiServerPort          = "ApiServerPort"
	vpcID                  = "VpcId"
	subnetIDs              = "SubnetIds"
	imageID                = "ImageId"
	imageParameter         = "ImageParameter"
	instanceType           = "InstanceType"
	volumeSize             = "VolumeSize"
	minSize                = "MinSize"
	maxSize                = "MaxSize"
	desiredCapacity        = "DesiredCapacity"
	minInstancesInService  = "MinInstancesInService"
	onDemandPercentage     = "OnDemandPercentage"
	clusterAutoscaler      = "ClusterAutoscaler"
	nodeLabels             = "NodeLabels"
	nodeTaints             = "NodeTaints"
	extraNodeConfig        = "ExtraNodeConfig"
	trustedCertificates    = "TrustedCertificates"
	shellScript            = "ShellScript"
	nodeRoleName           = "NodeRoleName"
)

// maxValue is CloudFormation's own bound of a parameter's value, in bytes.
const maxValue = 4096

// mostInstanceTypes is for how many the template has parameters: InstanceType, InstanceType2 ...
const mostInstanceTypes = 4

// Cluster is what the EKS API says about a cluster.
type Cluster struct {
	Name, Endpoint  string
	Authority       string // base64 of PEM
	ServiceCIDR     string
	VPCID           string
	SubnetIDs       []string
	SecurityGroupID string // "" for a control plane that has none
}

// Parameters are the template's about the cluster: where its API is, and from where it reaches
// its nodes.
func (c Cluster) Parameters() (map[string]string, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("the endpoint of cluster %s: %w", c.Name, err)
	}
	values := map[string]string{
		ClusterName: c.Name, clusterType: "ovenbird", clusterEndpoint: c.Endpoint, clusterAuthority: c.Authority, clusterServiceCIDR: c.ServiceCIDR,
		clusterSecurityGroupID: c.SecurityGroupID,
	}
	port := endpoint.Port()
	if port == "" {
		port = "443"
	}
	values[apiServerPort] = port
	if isAmazons(endpoint.Hostname()) {
		values[clusterType] = "eks"
	}
	// A control plane without a security group has an address at least, unless it is behind a
	// name: then nothing is said, and an update leaves what somebody gave.
	if c.SecurityGroupID != "" {
		values[controlPlaneCIDR] = ""
	} else if address, err := netip.ParseAddr(endpoint.Hostname()); err == nil && address.Is4() {
		values[controlPlaneCIDR] = netip.PrefixFrom(address, address.BitLen()).String()
	}
	return values, nil
}

// isAmazons recognizes the endpoints of Amazon EKS, in all partitions.
func isAmazons(host string) bool {
	return strings.Contains(host, ".eks.") && (strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn"))
}

// Network are the template's parameters about where nodes are: in the cluster's own subnets
// unless others are given. On Amazon EKS they are in the cluster's security group as well, as
// managed nodes are: CoreDNS may run on one of those.
func (c Cluster) Network(subnets []string) map[string]string {
	if len(subnets) == 0 {
		subnets = c.SubnetIDs
	}
	values := map[string]string{vpcID: c.VPCID, subnetIDs: strings.Join(subnets, ",")}
	if endpoint, err := url.Parse(c.Endpoint); err == nil && isAmazons(endpoint.Hostname()) {
		values[additionalGroupIDs] = c.SecurityGroupID
	}
	return values
}

// Settings are what people want of workers. What is nil or empty is not said.
type Settings struct {
	Nodes, Min, Max    *int
	InstanceTypes      []string // in the order in which they are wanted
	Image              string   // an AMI
	ImageParameter     string   // or the SSM parameter that holds one
	Spot               *bool
	Subnets            []string
	Labels, Taints     []string // key=value, key=value:effect
	NodeConfig, Script string   // texts
	Trusted            string   // certificates in PEM
	VolumeSize         *int     // GiB
	Role               string   // the name of an existing role of nodes
	// Others are parameters by their own names, which win.
	Others map[string]string
}

// Parameters are the template's for the settings. Before are the values that a stack has, or
// the template's defaults for one that is to be made.
func (s Settings) Parameters(before map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, set := range []func(map[string]string) error{
		func(v map[string]string) error { return s.sizes(v, before) }, s.instances, s.nodes,
	} {
		if err := set(values); err != nil {
			return nil, err
		}
	}
	for name, value := range s.Others {
		values[name] = value
	}
	for name, value := range values {
		if len(value) > maxValue {
			return nil, fmt.Errorf("%s is %d bytes, more than the %d that CloudFormation takes", name, len(value), maxValue)
		}
	}
	return values, nil
}

// sizes leaves an update room: at least one node fewer than the group may have stays in service.
func (s Settings) sizes(values, before map[string]string) error {
	var low, high int
	switch {
	case s.Nodes != nil && (s.Min != nil || s.Max != nil):
		return errors.New("want --nodes, or --min and --max")
	case s.Nodes != nil && *s.Nodes < 0, s.Min != nil && *s.Min < 0:
		return errors.New("a group has no fewer than 0 nodes")
	case s.Nodes != nil:
		// One more while an update replaces them, and nobody to scale them.
		low, high = *s.Nodes, *s.Nodes+1
		values[desiredCapacity], values[clusterAutoscaler] = strconv.Itoa(low), "false"
	case s.Min != nil || s.Max != nil:
		low, high = number(before[minSize]), number(before[maxSize])
		if s.Min != nil {
			low = *s.Min
		}
		if s.Max != nil {
			high = *s.Max
		}
		values[desiredCapacity], values[clusterAutoscaler] = "", "true"
	default:
		return nil
	}
	if low > high || high < 1 {
		return fmt.Errorf("want no fewer than one node at most, and no more at least than at most: there would be at least %d and at most %d", low, high)
	}
	values[minSize], values[maxSize] = strconv.Itoa(low), strconv.Itoa(high)
	values[minInstancesInService] = strconv.Itoa(min(low, high-1))
	return nil
}

func number(value string) int {
	n, _ := strconv.Atoi(value) // CloudFormation holds Number parameters to be numbers
	return n
}

func (s Settings) instances(values map[string]string) error {
	if s.Image != "" && s.ImageParameter != "" {
		return errors.New("want --ami or --ami-parameter, not both")
	}
	if s.Image != "" || s.ImageParameter != "" {
		values[imageID], values[imageParameter] = s.Image, s.ImageParameter
	}
	if len(s.InstanceTypes) > mostInstanceTypes {
		return fmt.Errorf("want at most %d instance types", mostInstanceTypes)
	}
	for i := range mostInstanceTypes {
		if len(s.InstanceTypes) == 0 {
			break
		}
		name, value := instanceType, ""
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		if i < len(s.InstanceTypes) {
			value = s.InstanceTypes[i]
		}
		values[name] = value
	}
	if s.Spot != nil {
		values[onDemandPercentage] = "100"
		if *s.Spot {
			values[onDemandPercentage] = "0"
		}
	}
	if s.VolumeSize != nil {
		values[volumeSize] = strconv.Itoa(*s.VolumeSize)
	}
	if len(s.Subnets) > 0 {
		values[subnetIDs] = strings.Join(s.Subnets, ",")
	}
	return nil
}

func (s Settings) nodes(values map[string]string) error {
	for _, list := range []struct {
		name  string
		items []string
	}{{nodeLabels, s.Labels}, {nodeTaints, s.Taints}} {
		for _, item := range list.items {
			if strings.Contains(item, ",") {
				return fmt.Errorf("%q: want one label or taint each time", item)
			}
		}
		if len(list.items) > 0 {
			values[list.name] = strings.Join(list.items, ",")
		}
	}
	for name, text := range map[string]string{extraNodeConfig: s.NodeConfig, shellScript: s.Script, trustedCertificates: s.Trusted, nodeRoleName: s.Role} {
		if text != "" {
			values[name] = text
		}
	}
	return nil
}

// Complete refuses values with which no stack can be made, as far as CloudFormation would say
// it in the template's words and not in those of the command.
func Complete(values map[string]string) error {
	if values[imageID] == "" && values[imageParameter] == "" {
		return errors.New("no image: want --ami ID or --ami-parameter NAME")
	}
	if values[clusterSecurityGroupID] == "" && values[controlPlaneCIDR] == "" {
		return fmt.Errorf("cluster %s has no security group, and an endpoint that is a name: say with --parameter %s=BLOCK from where its control plane reaches nodes", values[ClusterName], controlPlaneCIDR)
	}
	return nil
}

// Role is the existing role of nodes that a stack with these values has; "" if it makes one.
func Role(values map[string]string) string { return values[nodeRoleName] }

// JoinedBy is the cluster as the user-data of a stack with these values names it.
func JoinedBy(values map[string]string) Cluster {
	return Cluster{Name: values[ClusterName], Endpoint: values[clusterEndpoint], Authority: values[clusterAuthority], ServiceCIDR: values[clusterServiceCIDR]}
}
