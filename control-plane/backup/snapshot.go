package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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

// Snapshot is what is in a verified snapshot.
type Snapshot struct {
	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"`
}

// VerifySnapshot checks every page and key of a snapshot, and that etcd's own code restores
// it: into trial, which it removes again. The pages are mapped into memory, and a damaged
// one may lead to where there is nothing, which ends the process: a service has another do it.
func VerifySnapshot(path, trial string) (verified Snapshot, err error) {
	if err := checkSum(path); err != nil {
		return Snapshot{}, fmt.Errorf("check the snapshot: %w", err)
	}
	status, err := snapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return Snapshot{}, fmt.Errorf("check the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(trial)) }()
	return Snapshot{status.Revision, status.TotalKey}, restoreSnapshot(path, trial)
}

// checkSum compares a snapshot with the SHA-256 that etcd sends after it.
func checkSum(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	size, want := info.Size()-sha256.Size, make([]byte, sha256.Size)
	if size <= 0 {
		return errors.New("it is cut short")
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(file, 0, size)); err != nil {
		return err
	}
	if _, err := file.ReadAt(want, size); err != nil {
		return err
	}
	if !bytes.Equal(digest.Sum(nil), want) {
		return errors.New("its checksum is another")
	}
	return nil
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
