package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// discover finds the cluster, with as few AWS calls as the NodeConfig allows.
func (n *node) discover(ctx context.Context, tell func(string)) (discover.Cluster, error) {
	cluster, err := discover.Sources{
		Tag: n.Metadata.Tag,
		Describe: func(ctx context.Context, name string) (nodeconfig.Cluster, error) {
			tell("EKS about cluster " + name)
			described, err := discover.Describe(ctx, n.eks(), name)
			if err != nil {
				return described, withAdvice(err, adviseOnEKS(err))
			}
			return described, nil
		},
	}.Cluster(ctx, n.facts.UserData.Spec.Cluster)
	var problems nodeconfig.Problems
	if errors.As(err, &problems) {
		return discover.Cluster{}, withAdvice(fmt.Errorf("user-data: %w", n.facts.UserData.Locate(problems)), advice.UserData)
	}
	return cluster, err
}

// eks returns the EKS API. Only AWS can verify a signature of the instance's role, so an API
// at an endpoint that is not AWS's gets a bearer token.
func (n *node) eks() awscall.Service {
	service := n.service("EKS", "eks")
	if !discover.IsAmazonService(service.Endpoint) {
		service.Token = func(ctx context.Context) (string, error) {
			token, _, err := n.signer().Token(ctx, ststoken.APIAudience(n.facts.Instance.Region, n.facts.Instance.AccountID))
			return token, err
		}
	}
	return service
}

// service returns the service of the node's region that the AWS SDKs call by variable.
func (n *node) service(variable, name string) awscall.Service {
	region := n.facts.Instance.Region
	return awscall.Service{
		Name: name, Region: region, Endpoint: n.env.endpoint(variable, name, region),
		Credentials: n.Metadata.Credentials(),
		Client:      awscall.NewClient(n.facts.UserData.TrustedCAs, n.env.proxy(), n.Traffic.AWS.Wrap),
		Now:         n.Clock.Now,
	}
}

// signer makes tokens of the instance's role.
func (n *node) signer() ststoken.Signer {
	return ststoken.Signer{
		Credentials: n.Metadata.Credentials(), Region: n.facts.Instance.Region, Endpoint: n.facts.stsEndpoint(), Now: n.Clock.Now,
	}
}
