package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Looks of a schedule come ten times an interval, within these bounds.
const (
	fastestLook = time.Second
	slowestLook = 10 * time.Minute
)

// Run backs every ACTIVE cluster up whose newest archive is older than interval, until ctx
// ends. When that was is read from the archives, so a service that is killed and started
// again neither forgets a backup nor takes one too many. One that fails is tried at the next look.
func Run(ctx context.Context, o Options, interval time.Duration) {
	ticker := time.NewTicker(min(max(interval/10, fastestLook), slowestLook))
	defer ticker.Stop()
	for {
		if err := look(ctx, o, interval); err != nil && ctx.Err() == nil {
			o.Log.Error("backups are not as they should be", zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// look takes what is due now, one cluster after the other.
func look(ctx context.Context, o Options, interval time.Duration) error {
	clusters, err := o.Registry.List(ctx)
	if err != nil {
		return err
	}
	archives, err := Archives(ctx, o.Place)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range clusters {
		if c.Deleting || c.Status.Phase != registry.PhaseActive || !due(archives[c.Name], interval, o.Now()) {
			continue
		}
		taken, err := Take(ctx, o, c.Name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		o.Log.Info("backup is taken", zap.String("cluster", c.Name), zap.String("archive", taken.Archive), zap.Int64("bytes", taken.Bytes))
	}
	return errors.Join(failed...)
}

// due tells whether the newest of a cluster's archives is older than interval.
func due(archives []string, interval time.Duration, now time.Time) bool {
	if len(archives) == 0 {
		return true
	}
	_, at, _ := parseName(archives[len(archives)-1])
	return now.Sub(at) >= interval
}

// Choose returns, for each cluster named, its newest archive that is no younger than at;
// at zero: the newest. No names: all clusters.
func Choose(archives map[string][]string, names []string, at time.Time) ([]string, error) {
	if len(names) == 0 {
		for name := range archives {
			names = append(names, name)
		}
	}
	var chosen []string
	for _, name := range names {
		archive := ""
		for _, candidate := range archives[name] {
			if _, taken, _ := parseName(candidate); at.IsZero() || !taken.After(at) {
				archive = candidate
			}
		}
		if archive == "" {
			return nil, fmt.Errorf("there is no such archive of cluster %s, of %d that there are", name, len(archives[name]))
		}
		chosen = append(chosen, archive)
	}
	return chosen, nil
}
