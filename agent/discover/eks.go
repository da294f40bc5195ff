package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// description is the part of an answer of DescribeCluster that a node needs.
type description struct {
	Status               string `json:"status"`
	Endpoint             string `json:"endpoint"`
	CertificateAuthority struct {
		Data string `json:"data"` // base64 of PEM
	} `json:"certificateAuthority"`
	KubernetesNetworkConfig struct {
		IPFamily        string `json:"ipFamily"` // "ipv4" or "ipv6"
		ServiceIPv4CIDR string `json:"serviceIpv4Cidr"`
		ServiceIPv6CIDR string `json:"serviceIpv6Cidr"`
	} `json:"kubernetesNetworkConfig"`
}

// Describe asks eks for the cluster name, in one call without a retry: the caller retries,
// and reports it. The answer is of a cluster that serves.
func Describe(ctx context.Context, eks awscall.Service, name string) (nodeconfig.Cluster, error) {
	answer, err := eks.Call(ctx, awscall.Request{Method: http.MethodGet, Path: "/clusters/" + url.PathEscape(name)})
	var output struct {
		Cluster *description `json:"cluster"`
	}
	switch {
	case err != nil:
		err = explain(err, name)
	case json.Unmarshal(answer, &output) != nil:
		err = errors.New("the answer is not what DescribeCluster gives")
	case output.Cluster == nil:
		err = errors.New("it answered without one")
	}
	if err != nil {
		return nodeconfig.Cluster{}, fmt.Errorf("ask EKS about cluster %s: %w", name, err)
	}
	return described(name, output.Cluster)
}

// described makes of an answer what a NodeConfig would have said.
func described(name string, cluster *description) (nodeconfig.Cluster, error) {
	if cluster.Status != "ACTIVE" && cluster.Status != "UPDATING" {
		return nodeconfig.Cluster{}, fmt.Errorf("cluster %s is %s: a node can join once it is ACTIVE or UPDATING", name, cluster.Status)
	}
	network := cluster.KubernetesNetworkConfig
	result := nodeconfig.Cluster{
		Name: name, APIServerEndpoint: cluster.Endpoint, CertificateAuthority: cluster.CertificateAuthority.Data, CIDR: network.ServiceIPv4CIDR,
	}
	if network.IPFamily == "ipv6" {
		result.CIDR = network.ServiceIPv6CIDR
	}
	return result, nil
}

const inUserData = "spec.cluster's apiServerEndpoint, certificateAuthority and cidr into user-data, which spares the call"

// explain adds to a refusal what to do about it.
func explain(err error, name string) error {
	var refused *awscall.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch {
	case refused.Status == http.StatusForbidden && refused.Code == "AccessDeniedException":
		return fmt.Errorf("%w (allow the instance's role eks:DescribeCluster, as docs/iam.md does, or put %s)", err, inUserData)
	case refused.Status == http.StatusForbidden:
		return fmt.Errorf("%w (compare the clock; an endpoint that does not know the instance's role cannot be asked: put %s)", err, inUserData)
	case refused.Status == http.StatusNotFound:
		return fmt.Errorf("%w (is there a cluster %s in this account and region?)", err, name)
	}
	return err
}
