// Package discover finds the cluster that the node belongs to: its endpoint, certificate
// authority and service network. It promises that what it returns is complete and well
// formed, and that it costs AWS no more calls than it must: none when the NodeConfig says it
// all, else one DescribeCluster.
package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/internal/partition"
)

// Cluster is what a node must know to join.
type Cluster struct {
	Name        string
	Endpoint    string // "https://host:port", no slash at the end
	CA          []byte // PEM
	ServiceCIDR netip.Prefix
}

// NameTags are the tags of an instance that name its cluster, the first that is there. The
// tag kubernetes.io/cluster/<name> cannot: EC2 shows no key with a slash in instance
// metadata. EKS sets eks:cluster-name on the instances of its managed node groups.
var NameTags = []string{"ovenbird.dev-cluster", "eks:cluster-name"}

// Sources are who to ask for what a NodeConfig leaves out.
type Sources struct {
	// Tag returns the value of a tag of the instance, "" when it has none.
	Tag func(ctx context.Context, key string) (string, error)
	// Describe asks the EKS API, in one call.
	Describe func(ctx context.Context, name string) (nodeconfig.Cluster, error)
}

// Cluster returns the cluster of config. An error about config itself is of type
// nodeconfig.Problems.
func (s Sources) Cluster(ctx context.Context, config nodeconfig.Cluster) (Cluster, error) {
	if SaysWhere(config) {
		return FromNodeConfig(config)
	}
	name := config.Name
	if name == "" {
		var err error
		if name, err = s.tagged(ctx); err != nil {
			return Cluster{}, err
		}
	}
	described, err := s.Describe(ctx, name)
	if err != nil {
		return Cluster{}, err
	}
	cluster, err := FromNodeConfig(described)
	if err != nil {
		return Cluster{}, fmt.Errorf("EKS does not describe cluster %s as a node needs it: %v", name, err) //nolint:errorlint // no problem of the NodeConfig's
	}
	return cluster, nil
}

// SaysWhere tells whether cluster means to say itself where the cluster is. One that says
// a part of it is taken at its word, so that FromNodeConfig names what is missing.
func SaysWhere(cluster nodeconfig.Cluster) bool {
	return cluster.APIServerEndpoint != "" || cluster.CertificateAuthority != "" || cluster.CIDR != ""
}

// tagged returns the name of the cluster that the instance's tags name.
func (s Sources) tagged(ctx context.Context) (string, error) {
	for _, key := range NameTags {
		name, err := s.Tag(ctx, key)
		if err != nil {
			return "", err
		}
		if name == "" {
			continue
		}
		if !nodeconfig.IsClusterName(name) {
			return "", fmt.Errorf("the instance's tag %s is %q, which is no cluster's name", key, name)
		}
		return name, nil
	}
	return "", errors.New("nothing names the cluster: put spec.cluster.name into user-data, or give the instance the tag " +
		NameTags[0] + " and turn on its tags in instance metadata")
}

// FromNodeConfig returns the cluster that cluster describes. Any error is of type
// nodeconfig.Problems.
func FromNodeConfig(cluster nodeconfig.Cluster) (Cluster, error) {
	var problems nodeconfig.Problems
	for _, required := range []struct{ field, value string }{
		{"name", cluster.Name},
		{"apiServerEndpoint", cluster.APIServerEndpoint},
		{"certificateAuthority", cluster.CertificateAuthority},
		{"cidr", cluster.CIDR},
	} {
		if required.value == "" {
			problems = append(problems, nodeconfig.Problem{Field: "spec.cluster." + required.field, Message: "missing"})
		}
	}
	if len(problems) > 0 {
		return Cluster{}, problems
	}
	ca, err := cluster.CA()
	if err != nil {
		return Cluster{}, nodeconfig.Problems{{Field: "spec.cluster.certificateAuthority", Message: err.Error()}}
	}
	prefix, err := netip.ParsePrefix(cluster.CIDR)
	if err != nil {
		return Cluster{}, nodeconfig.Problems{{Field: "spec.cluster.cidr", Message: err.Error()}}
	}
	result := Cluster{
		Name:        cluster.Name,
		Endpoint:    strings.TrimRight(cluster.APIServerEndpoint, "/"),
		CA:          append(bytes.TrimSpace(ca), '\n'),
		ServiceCIDR: prefix.Masked(),
	}
	if !result.ServiceCIDR.Contains(result.DNS()) {
		return Cluster{}, nodeconfig.Problems{{Field: "spec.cluster.cidr", Message: fmt.Sprintf("%s has no tenth address for the cluster's DNS", prefix)}}
	}
	return result, nil
}

// DNS returns the address of the cluster's name server: by the convention of EKS, the
// tenth of the service network.
func (c Cluster) DNS() netip.Addr {
	address := c.ServiceCIDR.Addr()
	for range 10 {
		address = address.Next()
	}
	return address
}

// IsAmazonEKS tells whether the cluster is Amazon's own and not one of Ovenbird: nobody else
// has a name below theirs. Amazon EKS signs no certificate for a client, and runs a cloud
// controller and a pod network of its own.
func (c Cluster) IsAmazonEKS() bool {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(endpoint.Hostname())
	// <id>.<shard>.<region>.eks.amazonaws.com
	return partition.HasSuffix(host, ".eks.") ||
		// <id>.eks-cluster.<region>.api.aws, of clusters with IPv6
		strings.Contains(host, ".eks-cluster.") &&
			(strings.HasSuffix(host, ".api.aws") || strings.HasSuffix(host, ".api.amazonwebservices.com.cn"))
}

// IsAmazonService tells whether endpoint, "https://host", is of AWS itself.
func IsAmazonService(endpoint string) bool {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(parsed.Hostname())
	return partition.HasSuffix(host, ".") || strings.HasSuffix(host, ".api.aws") || strings.HasSuffix(host, ".api.amazonwebservices.com.cn")
}

// DNSSuffix returns that of the region's services.
func DNSSuffix(region string) string { return partition.Of(region).DNSSuffix }
