package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// States of an update, as the EKS API spells them.
const (
	UpdateInProgress = "InProgress"
	UpdateSuccessful = "Successful"
	UpdateFailed     = "Failed"
)

// Update is one change of a cluster's settings, from the call that asked for it until the
// cluster runs so, or until it is clear that it cannot.
type Update struct {
	ID        string // a UUID; no cluster has two of one ID
	Cluster   string
	Type      string // "LoggingUpdate", ...
	Params    []UpdateParam
	Status    string
	Errors    []UpdateError `json:",omitempty"`
	CreatedAt time.Time

	Before Settings // what a failed update goes back to

	RequestHash string // of the body that asked for it, to tell a retry from another request

	Revision int64 `json:"-"`
}

// UpdateParam says what an update changes.
type UpdateParam struct{ Type, Value string }

// UpdateError says why an update failed.
type UpdateError struct {
	Code        string
	Message     string
	ResourceIDs []string
}

// Settings are what an update may change.
type Settings struct {
	AuthenticationMode string
	EnabledLogs        []string
	DeletionProtection bool
}

func (c *Cluster) settings() Settings {
	return Settings{c.AuthenticationMode, c.EnabledLogs, c.DeletionProtection}
}

func (c *Cluster) restore(s Settings) {
	c.AuthenticationMode, c.EnabledLogs, c.DeletionProtection = s.AuthenticationMode, s.EnabledLogs, s.DeletionProtection
}

// InProgressError says that a cluster has an update in progress: there is one at a time.
type InProgressError struct{ ID string }

func (e *InProgressError) Error() string { return "update " + e.ID + " is in progress" }

func updateKey(cluster, id string) string { return updatesPrefix + cluster + "/" + id }

// StartUpdate lets change edit the cluster and writes it together with the update, which it
// returns in progress. *InProgressError: the cluster has one already. ErrExists: it has had
// one of that ID. ErrNotFound: there is no such cluster. An error from change ends it.
func (r *Registry) StartUpdate(ctx context.Context, u Update, change func(*Cluster) error) (Update, error) {
	u.Status, u.Revision = UpdateInProgress, 0
	for {
		c, err := r.Get(ctx, u.Cluster)
		if err != nil {
			return Update{}, err
		}
		if c.UpdateID != "" {
			return Update{}, &InProgressError{c.UpdateID}
		}
		u.Before = c.settings()
		if err := change(&c); err != nil {
			return Update{}, err
		}
		c.UpdateID = u.ID
		revision, err := r.writeUpdate(ctx, c, u)
		if !errors.Is(err, ErrConflict) {
			u.Revision = revision
			return u, err
		}
	}
}

// FinishUpdate ends the update that a cluster has in progress: successfully, or with the
// reasons why not, and then the settings are again those of before. Another ID than that of
// the update in progress changes nothing.
func (r *Registry) FinishUpdate(ctx context.Context, cluster, id string, reasons ...UpdateError) error {
	for {
		c, err := r.Get(ctx, cluster)
		if err != nil || c.UpdateID != id {
			return err
		}
		u, err := r.GetUpdate(ctx, cluster, id)
		if errors.Is(err, ErrNotFound) {
			// The cluster cannot wait for ever for what there is no record of.
			c.UpdateID = ""
			if _, err = r.Update(ctx, c); errors.Is(err, ErrConflict) {
				continue
			}
			return err
		}
		if err != nil {
			return err
		}
		c.UpdateID, u.Status, u.Errors = "", UpdateSuccessful, reasons
		if len(reasons) > 0 {
			u.Status = UpdateFailed
			c.restore(u.Before)
		}
		if _, err = r.writeUpdate(ctx, c, u); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// writeUpdate writes a cluster and an update if both are still what was read; ErrExists: a
// new update is not new.
func (r *Registry) writeUpdate(ctx context.Context, c Cluster, u Update) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cluster, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encode cluster %s: %w", c.Name, err)
	}
	update, err := json.Marshal(u)
	if err != nil {
		return 0, fmt.Errorf("encode update %s: %w", u.ID, err)
	}
	key, updateKey := clustersPrefix+c.Name, updateKey(c.Name, u.ID)
	answer, err := r.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", c.Revision), clientv3.Compare(clientv3.ModRevision(updateKey), "=", u.Revision)).
		Then(clientv3.OpPut(key, string(cluster)), clientv3.OpPut(updateKey, string(update))).
		Else(clientv3.OpGet(updateKey, clientv3.WithKeysOnly())).
		Commit()
	if err == nil && !answer.Succeeded {
		err = ErrConflict
		if u.Revision == 0 && len(answer.Responses[0].GetResponseRange().Kvs) > 0 {
			err = ErrExists
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write update %s of cluster %s: %w", u.ID, c.Name, err)
	}
	return answer.Header.Revision, nil
}

// GetUpdate returns an update of a cluster, or ErrNotFound.
func (r *Registry) GetUpdate(ctx context.Context, cluster, id string) (Update, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, updateKey(cluster, id))
	if err == nil && len(answer.Kvs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Update{}, fmt.Errorf("read update %s of cluster %s: %w", id, cluster, err)
	}
	return decodeUpdate(answer.Kvs[0].Key, answer.Kvs[0].Value, answer.Kvs[0].ModRevision)
}

// ListUpdates returns the updates that a cluster has had, sorted by ID.
func (r *Registry) ListUpdates(ctx context.Context, cluster string) ([]Update, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, updateKey(cluster, ""), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("list updates of cluster %s: %w", cluster, err)
	}
	updates := make([]Update, 0, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		u, err := decodeUpdate(kv.Key, kv.Value, kv.ModRevision)
		if err != nil {
			return nil, err
		}
		updates = append(updates, u)
	}
	return updates, nil
}

func decodeUpdate(key, value []byte, revision int64) (Update, error) {
	var u Update
	if err := json.Unmarshal(value, &u); err != nil {
		return Update{}, fmt.Errorf("decode %s: %w", key, err)
	}
	u.Revision = revision
	return u, nil
}
