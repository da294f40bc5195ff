package iam

import (
	"context"
	"errors"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// ConfigMaps knows what the ConfigMaps aws-auth of clusters say; *awsauth.Clusters does.
type ConfigMaps interface {
	Entry(cluster, principalARN string) (registry.AccessEntry, error)
}

// Principals finds what a cluster makes of an IAM principal: by its access entry or, for
// one that has none, by the ConfigMap aws-auth where the cluster's mode allows that. The
// mode is read each time, so a change counts from the next look on.
type Principals struct {
	Registry
	ConfigMaps ConfigMaps
}

// GetAccessEntry returns the principal's entry, or the one that says what aws-auth does;
// registry.ErrNotFound when there is neither.
func (p Principals) GetAccessEntry(ctx context.Context, cluster, principalARN string) (registry.AccessEntry, error) {
	entry, missing := p.Registry.GetAccessEntry(ctx, cluster, principalARN)
	if !errors.Is(missing, registry.ErrNotFound) {
		return entry, missing
	}
	c, err := p.Get(ctx, cluster)
	if err != nil {
		return registry.AccessEntry{}, err
	}
	if c.AuthenticationMode != registry.ModeAPIAndConfigMap {
		return registry.AccessEntry{}, missing
	}
	return p.ConfigMaps.Entry(cluster, principalARN)
}
