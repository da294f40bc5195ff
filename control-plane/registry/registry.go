// Package registry keeps what should exist, clusters with their updates and who may enter
// them, as documents in etcd. It promises optimistic concurrency: a document changes only if it is still what
// the writer read. The API writes intent, the reconciler writes Status, and neither can
// lose the other's change.
//
// It knows nothing of processes, certificates or AWS; it never acts on what it stores.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What callers decide on.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile")
	ErrExists   = errors.New("exists already")
)

const (
	// callTimeout bounds each call to etcd, which answers in milliseconds or is not well.
	callTimeout = 5 * time.Second

	clustersPrefix = "/ovenbird/clusters/"       // + name
	portsPrefix    = "/ovenbird/ports/"          // + port; the value is the cluster's name
	entriesPrefix  = "/ovenbird/access-entries/" // + cluster + "/" + principal
	updatesPrefix  = "/ovenbird/updates/"        // + cluster + "/" + ID
)

// Phases of a cluster, as the EKS API spells its status.
const (
	PhaseCreating = "CREATING"
	PhaseActive   = "ACTIVE"
	PhaseUpdating = "UPDATING" // never in a Status: ACTIVE, with an update in progress
	// PhaseRestoring is in a Status alone, and the API shows it as CREATING: the cluster's
	// name is taken, its files are being put in place, and the reconciler leaves it alone.
	PhaseRestoring = "RESTORING"
	PhaseDeleting  = "DELETING"
	PhaseFailed    = "FAILED"
)

// How a cluster finds out what an IAM principal may do, as the EKS API spells it.
const (
	ModeAPI             = "API"                // by access entries
	ModeAPIAndConfigMap = "API_AND_CONFIG_MAP" // and by the ConfigMap aws-auth, for whom has none
)

// Types of logs of a control plane, as the EKS API spells them.
const (
	LogAPI               = "api"
	LogAudit             = "audit" // written only while it is enabled
	LogAuthenticator     = "authenticator"
	LogControllerManager = "controllerManager"
	LogScheduler         = "scheduler"
)

// Cluster is one cluster: everything but Status is what a user asked for.
type Cluster struct {
	Name            string
	ARN             string
	Version         string // the minor that was asked for, "1.37"
	PlatformVersion string // "eks.1"
	RoleARN         string
	CreatedAt       time.Time
	CreatedBy       string // the caller's canonical IAM ARN

	SubnetIDs        []string
	SecurityGroupIDs []string
	VPCID            string
	VPCCIDR          string
	ServiceCIDR      string
	PodCIDR          string
	Tags             map[string]string

	// What the user asked for and DescribeCluster gives back.
	EndpointPublicAccess  bool
	EndpointPrivateAccess bool
	CreatorIsAdmin        bool
	AuthenticationMode    string   // one of the modes below; empty in records of before there were several
	EnabledLogs           []string // "api", "audit", ...
	DeletionProtection    bool     // the API refuses to delete the cluster

	ClientRequestToken string
	RequestHash        string // of the CreateCluster body, to tell a retry from another request

	// Issuer of service account tokens, a URL; the reconciler chooses it once, and it stays.
	Issuer string `json:",omitempty"`

	Deleting bool   // the API sets it, the reconciler acts on it
	UpdateID string // of the update that the reconciler has to finish; empty: none
	Port     int    // of the API server; unique in this service

	Status Status

	Revision int64 `json:"-"` // etcd's, of the document as read; Update and Delete compare it
}

// Status is what the reconciler reports; nobody else writes it.
type Status struct {
	Phase                string
	KubernetesVersion    string // the patch that runs, "1.37.2"
	Endpoint             string // "https://host:port"
	CertificateAuthority []byte // PEM
	Message              string // why it is not ACTIVE yet, or the last error
}

var clusterName = regexp.MustCompile(`^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$`)

// ValidName tells whether a cluster may have that name, by the rules of EKS. Only such
// names go into keys and file names.
func ValidName(name string) bool { return clusterName.MatchString(name) }

// Registry reads and writes documents in etcd. It is safe for concurrent use.
type Registry struct{ etcd *clientv3.Client }

// New returns a registry in etcd, which the caller keeps and closes.
func New(etcd *clientv3.Client) *Registry { return &Registry{etcd: etcd} }

// Get returns a cluster; ErrNotFound when there is none of that name.
func (r *Registry) Get(ctx context.Context, name string) (Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, clustersPrefix+name)
	if err != nil {
		return Cluster{}, fmt.Errorf("read cluster %s: %w", name, err)
	}
	if len(answer.Kvs) == 0 {
		return Cluster{}, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	}
	return decodeCluster(answer.Kvs[0].Key, answer.Kvs[0].Value, answer.Kvs[0].ModRevision)
}

// List returns all clusters, sorted by name.
func (r *Registry) List(ctx context.Context) ([]Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, clustersPrefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	clusters := make([]Cluster, 0, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		c, err := decodeCluster(kv.Key, kv.Value, kv.ModRevision)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

func decodeCluster(key, value []byte, revision int64) (Cluster, error) {
	var c Cluster
	if err := json.Unmarshal(value, &c); err != nil {
		return Cluster{}, fmt.Errorf("decode %s: %w", key, err)
	}
	c.Revision = revision
	return c, nil
}

// Update writes c over the document it was read from and returns it with its new
// Revision. ErrConflict: it has changed since, read it again. ErrNotFound: it is gone.
func (r *Registry) Update(ctx context.Context, c Cluster) (Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	revision, err := r.replace(ctx, clustersPrefix+c.Name, c.Revision, c)
	if err != nil {
		return Cluster{}, fmt.Errorf("update cluster %s: %w", c.Name, err)
	}
	c.Revision = revision
	return c, nil
}

// replace writes a document over the one at key if that still has the revision.
func (r *Registry) replace(ctx context.Context, key string, revision int64, document any) (int64, error) {
	value, err := json.Marshal(document)
	if err != nil {
		return 0, err
	}
	answer, err := r.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision), exists(key)).
		Then(clientv3.OpPut(key, string(value))).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return 0, err
	}
	if !answer.Succeeded {
		return 0, conflictOrGone(answer)
	}
	return answer.Header.Revision, nil
}

// conflictOrGone tells why a transaction did not apply, from the read in its Else branch.
func conflictOrGone(answer *clientv3.TxnResponse) error {
	if len(answer.Responses[0].GetResponseRange().Kvs) == 0 {
		return ErrNotFound
	}
	return ErrConflict
}

// Change reads a cluster, lets change edit it and writes it, again and again until nobody
// came in between. It returns what was written. An error from change ends it.
func (r *Registry) Change(ctx context.Context, name string, change func(*Cluster) error) (Cluster, error) {
	for {
		c, err := r.Get(ctx, name)
		if err != nil {
			return Cluster{}, err
		}
		if err := change(&c); err != nil {
			return Cluster{}, err
		}
		c, err = r.Update(ctx, c)
		if !errors.Is(err, ErrConflict) {
			return c, err
		}
	}
}

// Delete forgets c, its access entries, updates, nodes' certificates and port, if c is still what was read:
// otherwise ErrConflict or ErrNotFound. Call it when nothing of the cluster is left.
func (r *Registry) Delete(ctx context.Context, c Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := clustersPrefix + c.Name
	answer, err := r.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", c.Revision), exists(key)).
		Then(
			clientv3.OpDelete(key),
			clientv3.OpDelete(portKey(c.Port)),
			clientv3.OpDelete(entriesPrefix+c.Name+"/", clientv3.WithPrefix()),
			clientv3.OpDelete(updatesPrefix+c.Name+"/", clientv3.WithPrefix()),
			clientv3.OpDelete(certificatesPrefix+c.Name+"/", clientv3.WithPrefix()),
		).
		Else(clientv3.OpGet(key, clientv3.WithKeysOnly())).
		Commit()
	if err == nil && !answer.Succeeded {
		err = conflictOrGone(answer)
	}
	if err != nil {
		return fmt.Errorf("delete cluster %s: %w", c.Name, err)
	}
	return nil
}

func exists(key string) clientv3.Cmp  { return clientv3.Compare(clientv3.CreateRevision(key), ">", 0) }
func missing(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }

func portKey(port int) string { return fmt.Sprintf("%s%d", portsPrefix, port) }

func trimKey(key []byte, prefix string) string { return strings.TrimPrefix(string(key), prefix) }
