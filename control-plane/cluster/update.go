package cluster

import (
	"context"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// An update is written together with what it asks for, so there is nothing to carry out
// beyond making the cluster as the record says. What is left is to tell how it ended.

// complete ends the update whose settings all components run with now.
func (w *worker) complete(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	if err := w.Registry.FinishUpdate(ctx, w.name, id); err != nil {
		return err
	}
	w.log.Info("update is done", zap.String("update", id))
	return nil
}

// giveUp fails the update of c, if it had one when this look began and still has, once that
// has taken too long. The settings of before come back with it. why is what went wrong at
// this look, nil when something is only awaited.
func (w *worker) giveUp(ctx context.Context, c registry.Cluster, why error) error {
	if c.UpdateID == "" {
		w.updating.id = ""
		return nil
	}
	latest, err := w.Registry.Get(ctx, c.Name)
	if err != nil || latest.UpdateID != c.UpdateID {
		return err
	}
	now := w.Now()
	if w.updating.id != c.UpdateID {
		w.updating.id, w.updating.since = c.UpdateID, now
	}
	if now.Sub(w.updating.since) < updateLimit {
		return nil
	}
	message := latest.Status.Message
	if why != nil {
		message = why.Error()
	}
	w.log.Warn("update is given up", zap.String("update", c.UpdateID), zap.String("reason", message))
	return w.Registry.FinishUpdate(ctx, c.Name, c.UpdateID, registry.UpdateError{
		Code: "Unknown", Message: "The control plane did not run with the new settings within " + updateLimit.String() + ", and has the old ones again: " + message,
		ResourceIDs: []string{c.Name},
	})
}
