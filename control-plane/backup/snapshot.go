package backup

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

const (
	// memberName is that of every etcd the service runs. It has no peers, so what it is
	// told of its own peer address does not matter.
	memberName = "local"
	memberPeer = "https://127.0.0.1:2380"
	// revisionBump is more than any cluster writes between its last backup and its end. It
	// has watchers that saw later revisions start anew instead of taking the past for the
	// present (etcd's and Kubernetes' advice for disaster recovery).
	revisionBump = 1_000_000_000
)

// verifySnapshot checks every page and key of a snapshot, and that etcd's own tool restores
// it: into trial, which it removes again.
func verifySnapshot(path, trial string) (status snapshot.Status, err error) {
	status, err = snapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return snapshot.Status{}, fmt.Errorf("check the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(trial)) }()
	return status, restoreSnapshot(path, trial)
}

// restoreSnapshot makes an etcd data directory of a snapshot, whose checksum it checks.
func restoreSnapshot(path, dataDir string) error {
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: path, OutputDataDir: dataDir,
		Name: memberName, PeerURLs: []string{memberPeer}, InitialCluster: memberName + "=" + memberPeer, InitialClusterToken: "etcd-cluster",
		RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore the snapshot: %w", err)
	}
	return nil
}
