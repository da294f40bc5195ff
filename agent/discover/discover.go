// Package discover finds the cluster that the node belongs to: its endpoint, certificate
// authority and service network. It promises that what it returns is complete and well
// formed. For now a NodeConfig must say it all; no call is made.
package discover

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// Cluster is what a node must know to join.
type Cluster struct {
	Name        string
	Endpoint    string // "https://host:port", no slash at the end
	CA          []byte // PEM
	ServiceCIDR netip.Prefix
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
