// Package backup keeps copies of clusters from which they come back: on the same machine
// after their data is damaged or they were deleted, or on another machine.
//
// An archive holds what cannot be made again: a snapshot of the cluster's etcd, what the
// registry says of the cluster, its authorities, its service account key and the key that
// Secrets are encrypted with. Whoever has an archive has the cluster, so it leaves the
// machine encrypted only, and only one that was made with the same key is restored. It is
// verified when it is taken, by what restores it, and read back from where it is kept.
package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// takeTimeout bounds one backup; etcd's largest data, 8 GiB, at 30 MB/s takes five minutes.
	takeTimeout   = 30 * time.Minute
	answerTimeout = 10 * time.Second
)

// ErrNoData says that a cluster is still being made, or removed, and has nothing to keep.
var ErrNoData = errors.New("is not ACTIVE")

// Options are what backups are taken with.
type Options struct {
	StateDir string // of the service, absolute
	Registry *registry.Registry
	Place    Place
	Key      *Key // nil: archives are not encrypted, and stay on this machine
	Keep     int  // how many archives of a cluster stay; 0: all
	// Verify does what VerifySnapshot does.
	Verify func(ctx context.Context, path, trial string) (Snapshot, error)
	Log    *zap.Logger
	Now    func() time.Time
}

// Taken tells of an archive.
type Taken struct {
	Cluster string `json:"cluster"`
	Archive string `json:"archive"` // its name in its place
	Bytes   int64  `json:"bytes"`
	Snapshot
}

// Take takes a backup of one cluster and removes those beyond Keep. When only the removal
// fails, it returns what it took beside the error.
func Take(ctx context.Context, o Options, name string) (Taken, error) {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	taken, err := take(ctx, o, name)
	if err != nil {
		return Taken{}, fmt.Errorf("back cluster %s up: %w", name, err)
	}
	if err := prune(ctx, o, name, taken.Archive); err != nil {
		return taken, fmt.Errorf("remove old backups of cluster %s: %w", name, err)
	}
	return taken, nil
}

func take(ctx context.Context, o Options, name string) (Taken, error) {
	saved, err := o.Registry.Export(ctx, name)
	if err != nil {
		return Taken{}, err
	}
	if saved.Cluster.Deleting || saved.Cluster.Status.Phase != registry.PhaseActive {
		return Taken{}, ErrNoData
	}
	work, err := openWork(filepath.Join(o.StateDir, "backup"), name)
	if err != nil {
		return Taken{}, err
	}
	defer work.close()

	snapshot := work.path(snapshotFile)
	if err := saveSnapshot(ctx, o, name, snapshot); err != nil {
		return Taken{}, err
	}
	verified, err := o.Verify(ctx, snapshot, work.path("trial"))
	if err != nil {
		return Taken{}, err
	}
	now := o.Now().UTC()
	files, err := collect(saved, cluster.KeyDir(o.StateDir, name), snapshot)
	if err != nil {
		return Taken{}, err
	}
	size, err := pack(work.path("archive"), o.Key, Manifest{Cluster: name, TakenAt: now, Kubernetes: saved.Cluster.Status.KubernetesVersion}, files)
	if err != nil {
		return Taken{}, err
	}
	if err := checkSame(ctx, o.Registry, saved.Cluster); err != nil {
		return Taken{}, err
	}
	archive := archiveName(name, now)
	if err := o.Place.Put(ctx, archive, work.path("archive")); err != nil {
		return Taken{}, err
	}
	if _, err := readArchive(ctx, o.Place, archive, o.Key, ""); err != nil {
		return Taken{}, errors.Join(err, o.Place.Delete(ctx, archive))
	}
	return Taken{Cluster: name, Archive: archive, Bytes: size, Snapshot: verified}, nil
}

// checkSame tells whether c is still there. Otherwise what was collected since may be
// incomplete, or of another cluster of that name.
func checkSame(ctx context.Context, r *registry.Registry, c registry.Cluster) error {
	latest, err := r.Get(ctx, c.Name)
	if err == nil && (latest.Deleting || !latest.CreatedAt.Equal(c.CreatedAt)) {
		err = errors.New("it was deleted meanwhile")
	}
	return err
}

// saveSnapshot copies the data of a cluster's etcd, as of one moment.
func saveSnapshot(ctx context.Context, o Options, name, path string) error {
	port, err := cluster.KeptPort(cluster.Dir(o.StateDir, name), "etcd")
	if err != nil {
		return err
	}
	etcd, err := cluster.DialEtcd(cluster.KeyDir(o.StateDir, name), port, o.Log)
	if err != nil {
		return err
	}
	defer etcd.Close()
	size, err := sizeOf(ctx, etcd)
	if err != nil {
		return err
	}
	// For the snapshot, what it is restored to for a trial, and the archive.
	if err := checkRoom(filepath.Dir(path), 3*size); err != nil {
		return err
	}
	return download(ctx, etcd, path)
}

// sizeOf returns how many bytes of data an etcd has. A cluster that is down does not hold
// the others' backups up.
func sizeOf(ctx context.Context, etcd *clientv3.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	status, err := etcd.Status(ctx, etcd.Endpoints()[0])
	if err != nil {
		return 0, fmt.Errorf("its etcd does not answer: %w", err)
	}
	return status.DbSize, nil
}

// checkRoom tells whether there is room for size bytes more in dir.
func checkRoom(dir string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size { //nolint:gosec // no file system is that large
		return fmt.Errorf("there is no room in %s: a backup needs %d MiB free there, three times the cluster's data, and %d MiB are", dir, size>>20, free>>20)
	}
	return nil
}

// collect lists what goes into an archive. Certificates that an authority signs are made
// again, for the address of the machine that the cluster comes back on.
func collect(saved registry.Saved, keyDir, snapshot string) ([]member, error) {
	document, err := encodeSaved(saved)
	if err != nil {
		return nil, err
	}
	files := []member{{name: registryFile, content: document}, {name: snapshotFile, path: snapshot}}
	entries, err := os.ReadDir(keyDir)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() && !strings.HasSuffix(entry.Name(), ".pem") && !strings.HasPrefix(entry.Name(), ".") {
			files = append(files, member{name: keyPrefix + entry.Name(), path: filepath.Join(keyDir, entry.Name())})
		}
	}
	return files, nil
}

// prune removes the oldest archives of a cluster that there is one too many of. The one just
// taken stays, also beside such that are dated in the future.
func prune(ctx context.Context, o Options, name, taken string) error {
	if o.Keep <= 0 {
		return nil
	}
	archives, err := Archives(ctx, o.Place)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(archives[name], func(archive string) bool { return archive == taken })
	for _, archive := range others[:max(0, len(others)+1-o.Keep)] {
		if err := o.Place.Delete(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// download writes etcd's snapshot, with the checksum that etcd sends after it, to path.
func download(ctx context.Context, etcd *clientv3.Client, path string) (err error) {
	stream, err := etcd.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot of etcd: %w", err)
	}
	defer stream.Close()
	if err := copyTo(path, stream); err != nil {
		return fmt.Errorf("take a snapshot of etcd: %w", err)
	}
	return nil
}
