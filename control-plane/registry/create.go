package registry

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Ports that API servers listen on: Kubernetes' own default and those above it, one a
// cluster.
const (
	firstPort = 6443
	lastPort  = 7442
)

// Create writes a new cluster and its first access entries in one transaction, and returns
// it with its Revision. A zero Port gets the lowest that no other cluster has. ErrExists:
// a cluster of that name is there already.
func (r *Registry) Create(ctx context.Context, c Cluster, entries ...AccessEntry) (Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	choose := c.Port == 0
	for {
		if choose {
			port, err := r.freePort(ctx)
			if err != nil {
				return Cluster{}, fmt.Errorf("create cluster %s: %w", c.Name, err)
			}
			c.Port = port
		}
		revision, err := r.create(ctx, c, entries)
		if err != nil {
			return Cluster{}, fmt.Errorf("create cluster %s: %w", c.Name, err)
		}
		if revision != 0 {
			c.Revision = revision
			return c, nil
		}
		if !choose {
			return Cluster{}, fmt.Errorf("create cluster %s: port %d: %w", c.Name, c.Port, ErrConflict)
		}
	}
}

// create returns 0 when somebody else took the port first.
func (r *Registry) create(ctx context.Context, c Cluster, entries []AccessEntry) (int64, error) {
	key := clustersPrefix + c.Name
	document, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	writes := []clientv3.Op{clientv3.OpPut(key, string(document)), clientv3.OpPut(portKey(c.Port), c.Name)}
	for _, entry := range entries {
		entry.Cluster = c.Name
		document, err := json.Marshal(entry)
		if err != nil {
			return 0, err
		}
		writes = append(writes, clientv3.OpPut(entryKey(entry.Cluster, entry.PrincipalARN), string(document)))
	}
	answer, err := r.etcd.Txn(ctx).
		If(missing(key), missing(portKey(c.Port))).
		Then(writes...).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
		Commit()
	switch {
	case err != nil:
		return 0, err
	case answer.Succeeded:
		return answer.Header.Revision, nil
	case len(answer.Responses[0].GetResponseRange().Kvs) > 0:
		return 0, ErrExists
	}
	return 0, nil
}

func (r *Registry) freePort(ctx context.Context) (int, error) {
	answer, err := r.etcd.Get(ctx, portsPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, fmt.Errorf("list ports in use: %w", err)
	}
	used := map[string]bool{}
	for _, kv := range answer.Kvs {
		used[string(kv.Key)] = true
	}
	for port := firstPort; port <= lastPort; port++ {
		if !used[portKey(port)] {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port between %d and %d is free: delete a cluster first", firstPort, lastPort)
}
