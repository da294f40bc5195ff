package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	keyDir     string
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
	s := &store{keyDir: filepath.Join(dir, "pki")}
	if err := s.renewKeys(time.Now()); err != nil {
		return nil, err
	}
	runDir := filepath.Join(dir, "run")
	running, err := supervise.Running(runDir)
	if err != nil {
		return nil, err
	}
	ports, err := cluster.EnsurePorts(filepath.Join(dir, "ports.json"), []string{"etcd", "etcd-peer", "etcd-http"}, len(running) == 0, nil)
	if err != nil {
		return nil, err
	}
	etcd := component.Store{
		Name: "registry", Version: release.Etcd, Path: filepath.Join(release.EtcdDir, "etcd"),
		DataDir: filepath.Join(dir, "etcd"), KeyDir: s.keyDir, Port: ports["etcd"], Peer: ports["etcd-peer"], HTTP: ports["etcd-http"], Compact: compactAfter,
	}.Component()

	s.supervisor = supervise.New(runDir, supervise.Production(), log)
	if err := s.supervisor.Apply([]component.Component{etcd}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.supervisor.Await(ctx); err != nil {
		s.supervisor.Detach()
		return nil, fmt.Errorf("start the registry's etcd, log in %s: %w", runDir, err)
	}
	if s.client, err = s.connect(etcd.Ports[0].Address, log); err != nil {
		s.supervisor.Detach()
		return nil, err
	}
	return s, nil
}

func (s *store) connect(address string, log *zap.Logger) (*clientv3.Client, error) {
	authority, err := os.ReadFile(filepath.Join(s.keyDir, "etcd-ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("connect to the registry: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{"https://" + address},
		DialTimeout:          10 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)),
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    roots,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return readPair(filepath.Join(s.keyDir, "etcd-client.pem"))
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the registry: %w", err)
	}
	return client, nil
}

func (s *store) renewKeys(now time.Time) error {
	_, err := pki.Ensure(s.keyDir, component.StoreKeys(), now)
	return err
}

// detach leaves etcd running.
func (s *store) detach() {
	_ = s.client.Close()
	s.supervisor.Detach()
}

// readPair reads a certificate and its key from one file.
func readPair(path string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &pair, nil
}
