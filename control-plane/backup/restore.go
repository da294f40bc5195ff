package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

// removeTimeout bounds how long the service may take to remove a cluster that is replaced.
const removeTimeout = 5 * time.Minute

// ErrInTheWay says that there is something of a cluster where it is to be restored.
var ErrInTheWay = errors.New("is in the way")

// Target is where clusters are restored: a service that runs.
type Target struct {
	StateDir string // of the service, absolute
	Registry *registry.Registry
	Replace  bool // remove what is in the way
	Log      *zap.Logger
}

// Restored tells of a cluster that the service makes of an archive.
type Restored struct {
	Cluster string    `json:"cluster"`
	Archive string    `json:"archive"`
	TakenAt time.Time `json:"takenAt"`
	Port    int       `json:"port"` // of its API server
}

// Restore brings a cluster back from an archive. The archive is whole on this machine before
// anything that is in the way is touched. Then a record takes the name, the files are put in
// place, and last the record has the service start the cluster. Killed in between, it can be
// done again, and the cluster can be deleted.
func Restore(ctx context.Context, t Target, place Place, archive string, key *Key) (Restored, error) {
	name, _, ok := parseName(archive)
	if !ok {
		return Restored{}, fmt.Errorf("%q is not the name of an archive", archive)
	}
	restored, err := t.restore(ctx, name, place, archive, key)
	if err != nil {
		return Restored{}, fmt.Errorf("restore cluster %s: %w", name, err)
	}
	return restored, nil
}

func (t Target) restore(ctx context.Context, name string, place Place, archive string, key *Key) (Restored, error) {
	if !t.Replace {
		if err := t.checkClear(ctx, name); err != nil {
			return Restored{}, err
		}
	}
	staged, err := openWork(filepath.Join(t.StateDir, "restore"), name)
	if err != nil {
		return Restored{}, err
	}
	defer staged.close()
	manifest, saved, err := t.stage(ctx, staged, name, place, archive, key)
	if err != nil {
		return Restored{}, err
	}
	if t.Replace {
		err = t.clear(ctx, name)
	} else {
		err = t.clearAbandoned(ctx, name)
	}
	if err != nil {
		return Restored{}, err
	}
	c, err := t.Registry.Import(ctx, saved)
	if err != nil {
		return Restored{}, err
	}
	if c, err = t.place(ctx, staged, c); err != nil {
		return Restored{}, err
	}
	t.Log.Info("cluster is restored", zap.String("cluster", name), zap.String("archive", archive))
	return Restored{Cluster: name, Archive: archive, TakenAt: manifest.TakenAt, Port: c.Port}, nil
}

// place puts a cluster's files where the service expects them, and has it start from there.
func (t Target) place(ctx context.Context, staged *work, c registry.Cluster) (registry.Cluster, error) {
	dir := cluster.Dir(t.StateDir, c.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return c, fmt.Errorf("make cluster directory: %w", err)
	}
	if err := os.Rename(staged.dir, dir); err != nil {
		return c, fmt.Errorf("put the cluster's files in place: %w", err)
	}
	if err := syncDirectory(filepath.Dir(dir)); err != nil {
		return c, err
	}
	finished, err := t.Registry.FinishImport(ctx, c)
	if errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrConflict) {
		err = errors.Join(fmt.Errorf("it was deleted meanwhile: %w", err), t.takeBack(ctx, c))
	}
	return finished, err
}

// takeBack removes the files of a cluster that was deleted while they were put in place,
// perhaps before they were there to be removed, unless there is another of its name.
func (t Target) takeBack(ctx context.Context, c registry.Cluster) error {
	latest, err := t.Registry.Get(ctx, c.Name)
	if err == nil && !latest.CreatedAt.Equal(c.CreatedAt) {
		return nil
	}
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	return os.RemoveAll(cluster.Dir(t.StateDir, c.Name))
}

// stage lays a cluster's directory out as the service expects to find it.
func (t Target) stage(ctx context.Context, staged *work, name string, place Place, archive string, key *Key) (Manifest, registry.Saved, error) {
	fail := func(err error) (Manifest, registry.Saved, error) { return Manifest{}, registry.Saved{}, err }
	manifest, err := readArchive(ctx, place, archive, key, staged.dir)
	if err != nil {
		return fail(err)
	}
	saved, err := readSaved(staged.path(registryFile))
	if err != nil {
		return fail(err)
	}
	if saved.Cluster.Name != name {
		return fail(fmt.Errorf("%s is of cluster %s", archive, saved.Cluster.Name))
	}
	if err := restoreSnapshot(staged.path(snapshotFile), staged.path(cluster.EtcdData)); err != nil {
		return fail(err)
	}
	return manifest, saved, errors.Join(os.Remove(staged.path(snapshotFile)), os.Remove(staged.path(registryFile)))
}

// checkClear refuses when there is a cluster of that name, or what is left of one that no
// restore began.
func (t Target) checkClear(ctx context.Context, name string) error {
	const advice = "give --replace to have it removed for good"
	c, err := t.Registry.Get(ctx, name)
	if abandoned(c) {
		return nil
	}
	if err == nil {
		return fmt.Errorf("a cluster of that name, %s, %w: %s", c.Status.Phase, ErrInTheWay, advice)
	}
	if !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	dir := cluster.Dir(t.StateDir, name)
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s, which the registry does not know, %w: %s", dir, ErrInTheWay, advice)
	}
	return nil
}

// abandoned tells whether c is what a killed restore left, for one that has its lock.
func abandoned(c registry.Cluster) bool {
	return c.Status.Phase == registry.PhaseRestoring && !c.Deleting
}

// clearAbandoned removes what a killed restore left: files, then record, so that the files
// are never without one.
func (t Target) clearAbandoned(ctx context.Context, name string) error {
	c, err := t.Registry.Get(ctx, name)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil || !abandoned(c) {
		return err
	}
	if err := os.RemoveAll(cluster.Dir(t.StateDir, name)); err != nil {
		return fmt.Errorf("remove files of cluster %s: %w", name, err)
	}
	return t.Registry.Delete(ctx, c)
}

// clear has the service remove a cluster, or removes what the registry does not know of.
func (t Target) clear(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	_, err := t.Registry.Change(ctx, name, func(c *registry.Cluster) error {
		c.Deleting = true
		return nil
	})
	if err == nil {
		err = t.awaitGone(ctx, name)
	}
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	dir := cluster.Dir(t.StateDir, name)
	if _, err := supervise.StopAll(ctx, dir, supervise.Production().Grace); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files of cluster %s: %w", name, err)
	}
	return nil
}

func (t Target) awaitGone(ctx context.Context, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range t.Registry.Watch(ctx) {
		if _, err := t.Registry.Get(ctx, name); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return fmt.Errorf("the service does not remove the cluster, does it run? %w", context.Cause(ctx))
}
