package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// report puts why a look failed into the record, and returns it. A cluster that never was
// ACTIVE and never can be is FAILED.
func (w *worker) report(ctx context.Context, c registry.Cluster, why error) error {
	phase := c.Status.Phase
	if phase == registry.PhaseCreating && errors.Is(why, errHopeless) {
		phase = registry.PhaseFailed
	}
	if err := w.say(ctx, c, phase, why.Error()); err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	return why
}

// say writes a phase and a message. A message alone is written at most once a reportPause,
// the latest one then: the states behind it change faster than anybody reads.
func (w *worker) say(ctx context.Context, c registry.Cluster, phase, message string) error {
	status := c.Status
	status.Phase, status.Message = phase, message
	if phase == c.Status.Phase && message != c.Status.Message && w.Now().Sub(w.reported) < reportPause {
		w.unsaid = true
		return nil
	}
	_, err := w.write(ctx, c, status)
	return err
}

// write stores a status, if it says anything new. It never touches what the user asked for.
func (w *worker) write(ctx context.Context, c registry.Cluster, status registry.Status) (registry.Cluster, error) {
	if equal(c.Status, status) {
		return c, nil
	}
	w.reported = w.Now()
	return w.Registry.Change(ctx, c.Name, func(latest *registry.Cluster) error {
		latest.Status = status
		return nil
	})
}

func equal(a, b registry.Status) bool {
	return a.Phase == b.Phase && a.KubernetesVersion == b.KubernetesVersion && a.Endpoint == b.Endpoint &&
		a.Message == b.Message && string(a.CertificateAuthority) == string(b.CertificateAuthority)
}
