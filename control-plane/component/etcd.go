package component

import (
	"path/filepath"
	"time"
)

// Store describes a single-member etcd on 127.0.0.1 that only holders of a certificate
// may talk to. Its keys are those of StoreKeys.
type Store struct {
	Name    string
	Version string
	Path    string // of the program
	DataDir string
	KeyDir  string
	Port    uint16
	Peer    uint16
	HTTP    uint16
	// Compact forgets old revisions after a while. A cluster's API server does so itself.
	Compact time.Duration
	Trust   string // as in Component
}

// storeQuota is the most that etcd's documentation recommends, instead of its default of 2 GiB.
const storeQuota = 8 << 30

// Component describes the process.
func (s Store) Component() Component {
	key := func(name string) string { return filepath.Join(s.KeyDir, name) }
	client, peer, health := "https://"+loopback(s.Port), "https://"+loopback(s.Peer), "https://"+loopback(s.HTTP)
	args := []string{
		option("name", "local"),
		option("data-dir", s.DataDir),
		option("listen-client-urls", client),
		option("advertise-client-urls", client),
		// On one port with gRPC, HTTP would have gRPC served by a slower server, whose
		// watches starve under load (etcd-io/etcd#15402).
		option("listen-client-http-urls", health),
		option("listen-peer-urls", peer),
		option("initial-advertise-peer-urls", peer),
		option("initial-cluster", "local="+peer),
		option("cert-file", key("etcd-server.pem")),
		option("key-file", key("etcd-server.pem")),
		option("trusted-ca-file", key("etcd-ca.crt")),
		option("client-cert-auth", true),
		option("peer-cert-file", key("etcd-peer.pem")),
		option("peer-key-file", key("etcd-peer.pem")),
		option("peer-trusted-ca-file", key("etcd-ca.crt")),
		option("peer-client-cert-auth", true),
		option("tls-min-version", "TLS1.2"),
		option("cipher-suites", cipherSuites),
		option("quota-backend-bytes", storeQuota),
	}
	if s.Compact > 0 {
		args = append(args, option("auto-compaction-mode", "periodic"), option("auto-compaction-retention", s.Compact))
	}
	return Component{
		Name: s.Name, Version: s.Version, Path: s.Path, Args: args, DataDir: s.DataDir, Trust: s.Trust,
		Ports: []Port{{"client", loopback(s.Port)}, {"peer", loopback(s.Peer)}, {"http", loopback(s.HTTP)}},
		Probe: Probe{
			Ready: health + "/readyz", Live: health + "/livez",
			Authority: key("etcd-ca.crt"), Certificate: key("etcd-client.pem"),
			StartTimeout: startTimeout,
		},
	}
}

func (c Cluster) etcd() Component {
	return Store{
		Name: Etcd, Version: c.Release.Etcd, Path: filepath.Join(c.Release.EtcdDir, "etcd"),
		DataDir: c.file("etcd"), KeyDir: c.file("pki"), Port: c.Local.Etcd, Peer: c.Local.EtcdPeer, HTTP: c.Local.EtcdHTTP,
		Trust: c.Trust,
	}.Component()
}
