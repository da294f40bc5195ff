package eks

import (
	"context"
	"net/http"
)

// Nodes join by themselves and belong to no group, so tools that look for node groups find
// none.

func (a *api) listNodegroups(ctx context.Context, r *http.Request) (any, error) {
	if _, err := a.cluster(ctx, r.PathValue("name")); err != nil {
		return nil, err
	}
	shown, _, err := page(nil, r.URL.Query())
	if err != nil {
		return nil, err
	}
	return struct {
		Nodegroups []string `json:"nodegroups"`
	}{shown}, nil
}

func (a *api) describeNodegroup(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	return nil, noNodegroup(name, r.PathValue("nodegroup"))
}

func noNodegroup(cluster, name string) error {
	return notFound(cluster, "No node group found for name: %.100s.", name)
}
