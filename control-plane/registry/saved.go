package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Saved is everything that the registry holds of a cluster, to be written elsewhere or later.
type Saved struct {
	Cluster Cluster
	// Documents are those that belong to the cluster, its access entries for one, by key.
	// Which instance has which node certificate is not among them: it ends with the
	// certificates, within a day. An instance whose certificate is not known renews once
	// that has ended.
	Documents map[string]json.RawMessage
}

const (
	root = "/ovenbird/"
	// importBatch keeps a transaction below etcd's limit of 128 operations.
	importBatch = 100
)

// Export reads everything of a cluster as of one moment; ErrNotFound when there is none.
func (r *Registry) Export(ctx context.Context, name string) (Saved, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, root, clientv3.WithPrefix())
	if err != nil {
		return Saved{}, fmt.Errorf("export cluster %s: %w", name, err)
	}
	saved, found := Saved{Documents: map[string]json.RawMessage{}}, false
	for _, kv := range answer.Kvs {
		key := string(kv.Key)
		switch {
		case key == clustersPrefix+name:
			if saved.Cluster, err = decodeCluster(kv.Key, kv.Value, kv.ModRevision); err != nil {
				return Saved{}, err
			}
			found = true
		case belongsTo(key, name) && !strings.HasPrefix(key, certificatesPrefix):
			saved.Documents[key] = kv.Value
		}
	}
	if !found {
		return Saved{}, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	}
	return saved, nil
}

// belongsTo tells whether a key is /ovenbird/KIND/CLUSTER/...
func belongsTo(key, cluster string) bool {
	_, rest, ok := strings.Cut(strings.TrimPrefix(key, root), "/")
	return ok && strings.HasPrefix(rest, cluster+"/")
}

// Import writes a cluster as it was saved, with everything that belongs to it. It is
// RESTORING, also when Import is killed half done: the reconciler leaves it alone until
// FinishImport, and whoever imports again deletes it first. It keeps its port, or gets a
// free one when another cluster has that. ErrExists: there is a cluster of that name.
func (r *Registry) Import(ctx context.Context, saved Saved) (Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := saved.Cluster
	c.Deleting = false
	c.Status = Status{
		Phase: PhaseRestoring, KubernetesVersion: c.Status.KubernetesVersion,
		Message: "`ovenbird restore` brings the cluster back; if it has ended, call it again or delete the cluster",
	}
	var writes []clientv3.Op
	for key, document := range saved.Documents {
		if !belongsTo(key, c.Name) {
			return Cluster{}, fmt.Errorf("import cluster %s: %q is not one of its documents", c.Name, key)
		}
		writes = append(writes, clientv3.OpPut(key, string(document)))
	}
	first := writes[:min(len(writes), importBatch)]
	c, err := r.importFirst(ctx, c, first)
	if err != nil {
		return Cluster{}, fmt.Errorf("import cluster %s: %w", c.Name, err)
	}
	same := clientv3.Compare(clientv3.CreateRevision(clustersPrefix+c.Name), "=", c.Revision)
	for rest := writes[len(first):]; len(rest) > 0; rest = rest[min(len(rest), importBatch):] {
		answer, err := r.etcd.Txn(ctx).If(same).Then(rest[:min(len(rest), importBatch)]...).Commit()
		if err == nil && !answer.Succeeded {
			err = ErrNotFound
		}
		if err != nil {
			return Cluster{}, fmt.Errorf("import cluster %s: %w", c.Name, err)
		}
	}
	return c, nil
}

// FinishImport hands a cluster that Import returned, and whose files are in place, to the
// reconciler, to be made anew from them. ErrConflict, ErrNotFound: it was deleted meanwhile.
func (r *Registry) FinishImport(ctx context.Context, c Cluster) (Cluster, error) {
	return r.Change(ctx, c.Name, func(latest *Cluster) error {
		if latest.Deleting || latest.Status.Phase != PhaseRestoring || !latest.CreatedAt.Equal(c.CreatedAt) {
			return fmt.Errorf("cluster %s: %w", c.Name, ErrConflict)
		}
		latest.Status.Phase, latest.Status.Message = PhaseCreating, ""
		return nil
	})
}

// importFirst writes the cluster, its port and its first documents in one transaction.
func (r *Registry) importFirst(ctx context.Context, c Cluster, documents []clientv3.Op) (Cluster, error) {
	key := clustersPrefix + c.Name
	for {
		value, err := json.Marshal(c)
		if err != nil {
			return c, err
		}
		writes := append([]clientv3.Op{clientv3.OpPut(key, string(value)), clientv3.OpPut(portKey(c.Port), c.Name)}, documents...)
		answer, err := r.etcd.Txn(ctx).If(missing(key), missing(portKey(c.Port))).Then(writes...).
			Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).Commit()
		if err != nil {
			return c, err
		}
		if answer.Succeeded {
			c.Revision = answer.Header.Revision
			return c, nil
		}
		if !errors.Is(conflictOrGone(answer), ErrNotFound) {
			return c, ErrExists
		}
		if c.Port, err = r.freePort(ctx); err != nil {
			return c, err
		}
	}
}
