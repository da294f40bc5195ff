package eks

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// update is an update on the wire.
type update struct {
	ID        string        `json:"id"`
	Status    string        `json:"status"`
	Type      string        `json:"type"`
	Params    []updateParam `json:"params"`
	CreatedAt epoch         `json:"createdAt"`
	Errors    []updateError `json:"errors"`
}

type updateParam struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type updateError struct {
	Code        string   `json:"errorCode"`
	Message     string   `json:"errorMessage"`
	ResourceIDs []string `json:"resourceIds"`
}

type updateAnswer struct {
	Update update `json:"update"`
}

func updateOnTheWire(u registry.Update) updateAnswer {
	shown := update{ID: u.ID, Status: u.Status, Type: u.Type, CreatedAt: epoch(u.CreatedAt), Params: []updateParam{}, Errors: []updateError{}}
	for _, p := range u.Params {
		shown.Params = append(shown.Params, updateParam(p))
	}
	for _, e := range u.Errors {
		shown.Errors = append(shown.Errors, updateError(e))
	}
	return updateAnswer{shown}
}

func (a *api) updateClusterConfig(ctx context.Context, r *http.Request) (any, error) {
	var request updateConfigRequest
	hash, err := readJSON(r, &request)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	c, err := a.cluster(ctx, name)
	if err != nil {
		return nil, err
	}
	change, err := request.change(name)
	if err != nil {
		return nil, err
	}
	wanted := registry.Update{
		ID: updateID(c, request.ClientRequestToken), Cluster: name, Type: change.kind, Params: change.params, CreatedAt: a.Now().UTC(), RequestHash: hash,
	}
	if earlier, found, err := a.earlierUpdate(ctx, wanted); err != nil || found {
		return earlier, err
	}
	started, err := a.Registry.StartUpdate(ctx, wanted, func(c *registry.Cluster) error {
		if now := status(*c); now != registry.PhaseActive {
			return badRequest(name, "Cannot %s because cluster %s is %s", change.kind, name, now)
		}
		return change.apply(c)
	})
	if err != nil {
		// A retry may have overtaken the call that it repeats, and so be refused for what that did.
		if earlier, found, err := a.earlierUpdate(ctx, wanted); err != nil || found {
			return earlier, err
		}
		return nil, startError(err, wanted)
	}
	a.Log.Info("cluster is to be updated", zap.String("cluster", name), zap.String("update", started.ID), zap.String("type", change.kind), zap.String("caller", caller(ctx)))
	return updateOnTheWire(started), nil
}

// updateID makes the ID of a client's token, so that the registry itself lets a token start
// one update only.
func updateID(c registry.Cluster, token string) string {
	if token == "" {
		return uuid.NewString()
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(c.ARN+" "+token)).String()
}

// earlierUpdate looks for the update that an earlier call with the same token has started.
func (a *api) earlierUpdate(ctx context.Context, wanted registry.Update) (answer any, found bool, err error) {
	earlier, err := a.Registry.GetUpdate(ctx, wanted.Cluster, wanted.ID)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case earlier.RequestHash != wanted.RequestHash:
		return nil, false, tokenReused(wanted.Cluster)
	}
	return updateOnTheWire(earlier), true, nil
}

// startError says why an update was not started.
func startError(err error, wanted registry.Update) error {
	var busy *registry.InProgressError
	switch {
	case errors.As(err, &busy):
		return inUse(wanted.Cluster, "Cannot %s because cluster %s currently has update %s in progress", wanted.Type, wanted.Cluster, busy.ID)
	case errors.Is(err, registry.ErrNotFound):
		return noCluster(wanted.Cluster)
	}
	return err
}

type updateVersionRequest struct {
	Version            string         `json:"version"`
	Force              bool           `json:"force"`
	Rollback           map[string]any `json:"rollbackConfig"`
	ClientRequestToken string         `json:"clientRequestToken"`
}

// updateClusterVersion has only reasons to refuse, EKS's own ones first.
func (a *api) updateClusterVersion(ctx context.Context, r *http.Request) (any, error) {
	var request updateVersionRequest
	if _, err := readJSON(r, &request); err != nil {
		return nil, err
	}
	c, err := a.cluster(ctx, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	switch {
	case request.Version == c.Version:
		return nil, invalidParameter(c.Name, "Unsupported Kubernetes minor version update from %s to %s", c.Version, request.Version)
	case !slices.Contains(a.Versions, request.Version):
		return nil, invalidParameter(c.Name, "unsupported Kubernetes version %.20q", request.Version)
	}
	return nil, badRequest(c.Name, "UpdateClusterVersion is not offered by Ovenbird yet: cluster %s keeps version %s", c.Name, c.Version)
}

func (a *api) describeUpdate(ctx context.Context, r *http.Request) (any, error) {
	u, err := a.update(ctx, r)
	if err != nil {
		return nil, err
	}
	return updateOnTheWire(u), nil
}

// cancelUpdate refuses as EKS does for the types of updates that there are.
func (a *api) cancelUpdate(ctx context.Context, r *http.Request) (any, error) {
	u, err := a.update(ctx, r)
	if err != nil {
		return nil, err
	}
	return nil, badRequest(u.Cluster, "Update %s cannot be cancelled: it is a %s and %s", u.ID, u.Type, u.Status)
}

// update reads the update that a caller named.
func (a *api) update(ctx context.Context, r *http.Request) (registry.Update, error) {
	name, id := r.PathValue("name"), r.PathValue("update")
	if _, err := a.cluster(ctx, name); err != nil {
		return registry.Update{}, err
	}
	if err := ofCluster(name, r.URL.Query()); err != nil {
		return registry.Update{}, err
	}
	u, err := a.Registry.GetUpdate(ctx, name, id)
	if errors.Is(err, registry.ErrNotFound) {
		return registry.Update{}, notFound(name, "No update found for ID: %.100s", id)
	}
	return u, err
}

func (a *api) listUpdates(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	if err := ofCluster(name, r.URL.Query()); err != nil {
		return nil, err
	}
	updates, err := a.Registry.ListUpdates(ctx, name)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(updates))
	for _, u := range updates {
		ids = append(ids, u.ID)
	}
	shown, next, err := page(ids, r.URL.Query())
	if err != nil {
		return nil, err
	}
	return struct {
		UpdateIDs []string `json:"updateIds"`
		NextToken string   `json:"nextToken,omitempty"`
	}{shown, next}, nil
}

// ofCluster refuses a query for updates of something within the cluster, which has nothing
// of the kind.
func ofCluster(name string, query url.Values) error {
	if nodegroup := query.Get("nodegroupName"); nodegroup != "" {
		return noNodegroup(name, nodegroup)
	}
	for _, kind := range []string{"addon", "capability"} {
		if wanted := query.Get(kind + "Name"); wanted != "" {
			return notFound(name, "No %s: %.100s found in cluster: %s", kind, wanted, name)
		}
	}
	return nil
}
