package eks

import (
	"context"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

type clusterAnswer struct {
	Cluster cluster `json:"cluster"`
}

func (a *api) describeCluster(ctx context.Context, r *http.Request) (any, error) {
	c, err := a.cluster(ctx, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return clusterAnswer{onTheWire(c)}, nil
}

// cluster reads a cluster that a caller named.
func (a *api) cluster(ctx context.Context, name string) (registry.Cluster, error) {
	c, err := a.Registry.Get(ctx, name)
	if errors.Is(err, registry.ErrNotFound) {
		return registry.Cluster{}, noCluster(name)
	}
	return c, err
}

func (a *api) listClusters(ctx context.Context, r *http.Request) (any, error) {
	clusters, err := a.Registry.List(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(clusters))
	for _, c := range clusters {
		names = append(names, c.Name)
	}
	shown, next, err := page(names, r.URL.Query())
	if err != nil {
		return nil, err
	}
	return struct {
		Clusters  []string `json:"clusters"`
		NextToken string   `json:"nextToken,omitempty"`
	}{shown, next}, nil
}

// deleteCluster marks the cluster; the reconciler removes it, and its record last. Asking
// again is no error: a caller whose first answer was lost retries.
func (a *api) deleteCluster(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	c, err := a.Registry.Change(ctx, name, func(c *registry.Cluster) error {
		switch {
		case c.Deleting:
		// As on EKS, it protects a cluster that is of use: no update ends for one that is not.
		case c.DeletionProtection && c.Status.Phase == registry.PhaseActive:
			return badRequest(name, "Cluster %s has deletion protection on: turn it off with UpdateClusterConfig first", name)
		// An update that was saved with a cluster ends only once that is restored.
		case c.UpdateID != "" && c.Status.Phase != registry.PhaseRestoring:
			return inUse(name, "Cannot delete because cluster %s currently has update %s in progress", name, c.UpdateID)
		}
		c.Deleting = true
		return nil
	})
	if errors.Is(err, registry.ErrNotFound) {
		return nil, noCluster(name)
	}
	if err != nil {
		return nil, err
	}
	a.Log.Info("cluster is to be deleted", zap.String("cluster", name), zap.String("caller", caller(ctx)))
	return clusterAnswer{onTheWire(c)}, nil
}
