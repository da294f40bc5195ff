package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/control-plane/supervise"
)

// store is the etcd that the registry lives in, a component like any other.
type store struct {
	supervisor *supervise.Supervisor
	client     *clientv3.Client
	etcd       component.Store
}

const (
	// storeTimeout bounds the start of etcd, replaying its log included.
	storeTimeout = 2 * time.Minute
	// compactAfter is how long etcd keeps what a document was before.
	compactAfter = time.Hour
	// keyRefresh is how often the service looks at the age of its own certificates.
	keyRefresh = 10 * time.Minute
)

func openStore(ctx context.Context, stateDir string, release component.Release, log *zap.Logger) (*store, error) {
	dir := filepath.Join(stateDir, "registry")
	runDir := filepath.Join(dir, "run")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make registry directory: %w", err)
	}
	running, err := supervise.Running(runDir)
	if err != nil {
		return nil, err
	}
	ports, err := cluster.EnsurePorts(filepath.Join(dir, "ports.json"), []string{"etcd", "etcd-peer", "etcd-http"}, len(running) == 0, nil)
	if err != nil {
		return nil, err
	}
	s := &store{supervisor: supervise.New(runDir, supervise.Production(), log), etcd: component.Store{
		Name: "registry", Version: release.Etcd, Path: filepath.Join(release.EtcdDir, "etcd"),
		DataDir: filepath.Join(dir, "etcd"), KeyDir: registryKeys(stateDir), Port: ports["etcd"], Peer: ports["etcd-peer"], HTTP: ports["etcd-http"], Compact: compactAfter,
	}}
	if err := s.keep(time.Now()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.supervisor.Await(ctx); err != nil {
		s.supervisor.Detach()
		return nil, fmt.Errorf("start the registry's etcd, log in %s: %w", runDir, err)
	}
	if s.client, err = cluster.DialEtcd(s.etcd.KeyDir, s.etcd.Port, log); err != nil {
		s.supervisor.Detach()
		return nil, err
	}
	return s, nil
}

// keep renews the keys, and has etcd run with them: it reads its authority only when it starts.
func (s *store) keep(now time.Time) error {
	if _, err := pki.Ensure(s.etcd.KeyDir, component.StoreKeys(), now); err != nil {
		return err
	}
	var err error
	if s.etcd.Trust, err = pki.Fingerprint(filepath.Join(s.etcd.KeyDir, "etcd-ca.crt")); err != nil {
		return err
	}
	return s.supervisor.Apply([]component.Component{s.etcd.Component()})
}

func registryKeys(stateDir string) string { return filepath.Join(stateDir, "registry", "pki") }

// detach leaves etcd running.
func (s *store) detach() {
	_ = s.client.Close()
	s.supervisor.Detach()
}
