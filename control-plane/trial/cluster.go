package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

// pollEvery is how often a trial looks: small against what is measured, and as often as the
// bare start does.
const pollEvery = 50 * time.Millisecond

// Create asks for a cluster.
func (s *Site) Create(ctx context.Context, name string, options ...func(*eks.Options)) error {
	var ids []string
	for _, subnet := range subnets {
		ids = append(ids, subnet.id)
	}
	_, err := s.EKS.CreateCluster(ctx, &eks.CreateClusterInput{
		Name: aws.String(name), RoleArn: aws.String("arn:aws:iam::" + accountID + ":role/eks"),
		ResourcesVpcConfig: &types.VpcConfigRequest{SubnetIds: ids},
	}, options...)
	return err
}

// AwaitActive waits until a cluster is ACTIVE.
func (s *Site) AwaitActive(ctx context.Context, name string) (*types.Cluster, error) {
	var active *types.Cluster
	err := Poll(ctx, func() (bool, error) {
		answer, err := s.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		if err != nil {
			return false, err
		}
		active = answer.Cluster
		if active.Status == types.ClusterStatusFailed {
			return false, fmt.Errorf("cluster %s is FAILED", name)
		}
		return active.Status == types.ClusterStatusActive, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for cluster %s: %w", name, err)
	}
	return active, nil
}

// Delete deletes a cluster and waits until the API has forgotten it.
func (s *Site) Delete(ctx context.Context, name string) error {
	if _, err := s.EKS.DeleteCluster(ctx, &eks.DeleteClusterInput{Name: aws.String(name)}); err != nil {
		return err
	}
	return Poll(ctx, func() (bool, error) {
		_, err := s.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
		var gone *types.ResourceNotFoundException
		if errors.As(err, &gone) {
			return true, nil
		}
		return false, err
	})
}

// Poll asks again and again until done answers true or fails, or ctx ends.
func Poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
