package cluster

import (
	"fmt"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
)

// DialEtcd connects to an etcd of this machine that has the keys of component.StoreKeys in
// keyDir. The caller closes the client.
func DialEtcd(keyDir string, port uint16, log *zap.Logger) (*clientv3.Client, error) {
	const host = "127.0.0.1"
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{fmt.Sprintf("https://%s:%d", host, port)},
		DialTimeout:          10 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)),
		TLS:                  pki.ClientTLS(filepath.Join(keyDir, "etcd-ca.crt"), filepath.Join(keyDir, "etcd-client.pem"), host),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd on port %d: %w", port, err)
	}
	return client, nil
}
