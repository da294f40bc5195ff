package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Types of access entries, as the EKS API spells them.
const (
	TypeStandard = "STANDARD"
	TypeEC2Linux = "EC2_LINUX"
	TypeEC2      = "EC2" // instances whose Kubernetes user and groups the entry says
)

// NodeUsername is the template of a node's user name, as EKS shows it.
const NodeUsername = "system:node:{{EC2PrivateDNSName}}"

// AccessEntry lets an IAM principal into a cluster.
type AccessEntry struct {
	Cluster      string
	ARN          string // of the entry itself
	PrincipalARN string // of the role or user
	Type         string
	Username     string   // empty: of STANDARD the caller's ARN, of EC2 NodeUsername
	Groups       []string // Kubernetes groups; EC2_LINUX has those of nodes
	Policies     []AssociatedPolicy
	Tags         map[string]string `json:",omitempty"`
	CreatedAt    time.Time
	ModifiedAt   time.Time

	ClientRequestToken string `json:",omitempty"`
	RequestHash        string `json:",omitempty"`
	// Requests are the latest that changed the entry, to tell a retry from another one.
	Requests []Request `json:",omitempty"`

	Revision int64 `json:"-"`
}

// OfNodes tells whether the entry's principal is the role of nodes.
func (e AccessEntry) OfNodes() bool {
	return e.Type == TypeEC2Linux || e.Type == TypeEC2 && (e.Username == "" || e.Username == NodeUsername)
}

// Request identifies a call: its client's token, and a hash of what it asked for.
type Request struct{ Token, Hash string }

// CanonicalPrincipal takes the path out of a role's ARN. STS does not tell it, and a role
// name is unique in its account without it.
func CanonicalPrincipal(arn string) string {
	head, resource, ok := strings.Cut(arn, ":role/")
	if !ok {
		return arn
	}
	return head + ":role/" + resource[strings.LastIndexByte(resource, '/')+1:]
}

func entryKey(cluster, principalARN string) string {
	return entriesPrefix + cluster + "/" + url.PathEscape(CanonicalPrincipal(principalARN))
}

// CreateAccessEntry writes a new entry. ErrExists: the principal has one already.
// ErrNotFound: there is no such cluster.
func (r *Registry) CreateAccessEntry(ctx context.Context, entry AccessEntry) (AccessEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	document, err := json.Marshal(entry)
	if err != nil {
		return AccessEntry{}, fmt.Errorf("encode access entry of %s: %w", entry.PrincipalARN, err)
	}
	cluster, key := clustersPrefix+entry.Cluster, entryKey(entry.Cluster, entry.PrincipalARN)
	answer, err := r.etcd.Txn(ctx).
		If(exists(cluster), missing(key)).
		Then(clientv3.OpPut(key, string(document))).
		Else(clientv3.OpGet(cluster, clientv3.WithKeysOnly())).
		Commit()
	if err == nil && !answer.Succeeded {
		err = ErrExists
		if len(answer.Responses[0].GetResponseRange().Kvs) == 0 {
			err = ErrNotFound
		}
	}
	if err != nil {
		return AccessEntry{}, fmt.Errorf("create access entry of %s in cluster %s: %w", entry.PrincipalARN, entry.Cluster, err)
	}
	entry.Revision = answer.Header.Revision
	return entry, nil
}

// GetAccessEntry returns the principal's entry in a cluster, or ErrNotFound.
func (r *Registry) GetAccessEntry(ctx context.Context, cluster, principalARN string) (AccessEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, entryKey(cluster, principalARN))
	if err == nil && len(answer.Kvs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return AccessEntry{}, fmt.Errorf("read access entry of %s in cluster %s: %w", principalARN, cluster, err)
	}
	return decodeEntry(answer.Kvs[0].Key, answer.Kvs[0].Value, answer.Kvs[0].ModRevision)
}

// ListAccessEntries returns the entries of a cluster, sorted by principal.
func (r *Registry) ListAccessEntries(ctx context.Context, cluster string) ([]AccessEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, entriesPrefix+cluster+"/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("list access entries of cluster %s: %w", cluster, err)
	}
	entries := make([]AccessEntry, 0, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		entry, err := decodeEntry(kv.Key, kv.Value, kv.ModRevision)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// UpdateAccessEntry writes entry over the document it was read from: ErrConflict when that
// has changed since, ErrNotFound when it is gone.
func (r *Registry) UpdateAccessEntry(ctx context.Context, entry AccessEntry) (AccessEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	revision, err := r.replace(ctx, entryKey(entry.Cluster, entry.PrincipalARN), entry.Revision, entry)
	if err != nil {
		return AccessEntry{}, fmt.Errorf("update access entry of %s in cluster %s: %w", entry.PrincipalARN, entry.Cluster, err)
	}
	entry.Revision = revision
	return entry, nil
}

// ChangeAccessEntry is Change for the principal's entry in a cluster.
func (r *Registry) ChangeAccessEntry(ctx context.Context, cluster, principalARN string, change func(*AccessEntry) error) (AccessEntry, error) {
	for {
		entry, err := r.GetAccessEntry(ctx, cluster, principalARN)
		if err != nil {
			return AccessEntry{}, err
		}
		if err := change(&entry); err != nil {
			return AccessEntry{}, err
		}
		entry, err = r.UpdateAccessEntry(ctx, entry)
		if !errors.Is(err, ErrConflict) {
			return entry, err
		}
	}
}

// DeleteAccessEntry takes the principal's entry away; ErrNotFound when there is none.
func (r *Registry) DeleteAccessEntry(ctx context.Context, cluster, principalARN string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Delete(ctx, entryKey(cluster, principalARN))
	if err == nil && answer.Deleted == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete access entry of %s in cluster %s: %w", principalARN, cluster, err)
	}
	return nil
}

func decodeEntry(key, value []byte, revision int64) (AccessEntry, error) {
	var entry AccessEntry
	if err := json.Unmarshal(value, &entry); err != nil {
		return AccessEntry{}, fmt.Errorf("decode %s: %w", key, err)
	}
	entry.Revision = revision
	return entry, nil
}
