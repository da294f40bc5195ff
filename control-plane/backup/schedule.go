package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Looks of a schedule come ten times an interval, within these bounds.
const (
	fastestLook = time.Second
	slowestLook = 10 * time.Minute
)

// clockSkew is how far the clock of who took an archive may be ahead of this machine's.
const clockSkew = time.Hour

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
		past, ahead := split(archives[c.Name], o.Now())
		if len(ahead) > 0 {
			o.Log.Warn("backups are dated in the future, is a clock wrong?", zap.String("cluster", c.Name), zap.Strings("archives", ahead))
		}
		if c.Deleting || c.Status.Phase != registry.PhaseActive || !due(past, interval, o.Now()) {
			continue
		}
		taken, err := Take(ctx, o, c.Name)
		if err != nil {
			failed = append(failed, err)
		}
		if taken.Archive == "" {
			continue
		}
		o.Log.Info("backup is taken", zap.String("cluster", c.Name), zap.String("archive", taken.Archive), zap.Int64("bytes", taken.Bytes))
	}
	return errors.Join(failed...)
}

// split sets apart those of a cluster's archives that are dated in the future. They say
// nothing of when the last one was taken.
func split(archives []string, now time.Time) (past, ahead []string) {
	for i, archive := range archives {
		if _, at, _ := parseName(archive); at.Sub(now) > clockSkew {
			return archives[:i], archives[i:]
		}
	}
	return archives, nil
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
// at zero: the newest. No names: all clusters, and those that have no such archive are
// skipped.
func Choose(archives map[string][]string, names []string, at time.Time) (chosen, skipped []string, err error) {
	all := len(names) == 0
	if all {
		names = slices.Sorted(maps.Keys(archives))
	}
	for _, name := range names {
		archive := ""
		for _, candidate := range archives[name] {
			if _, taken, _ := parseName(candidate); at.IsZero() || !taken.After(at) {
				archive = candidate
			}
		}
		if archive == "" && all {
			skipped = append(skipped, name)
			continue
		}
		if archive == "" {
			return nil, nil, fmt.Errorf("there is no such archive of cluster %s, of %d that there are", name, len(archives[name]))
		}
		chosen = append(chosen, archive)
	}
	if len(chosen) == 0 {
		return nil, skipped, fmt.Errorf("there is no such archive of any cluster, of %d that there are", len(archives))
	}
	return chosen, skipped, nil
}
