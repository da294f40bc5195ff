package nodes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// removalTimeout bounds the removal of one Node.
	removalTimeout = 10 * time.Second
	// Removals a second, and at once: enough for a scale-in of hundreds, and slow enough
	// that somebody can stop what goes wrong.
	removalRate, removalBurst = 1, 10

	reasonRemoved = "OvenbirdInstanceGone" // of the Event on a Node
)

// Roster keeps the Nodes of ACTIVE clusters true to EC2: it removes those of instances that
// are gone, so that no later instance with the same name finds one, with the pods and
// secrets bound to it.
type Roster struct {
	instances *Instances
	recorder  Recorder
	log       *zap.Logger

	mu       sync.Mutex
	clusters map[string]*roll
}

// roll is the Nodes of one cluster.
type roll struct {
	*Roster
	cluster registry.Cluster
	client  kubernetes.Interface
	nodes   corelisters.NodeLister
	limit   flowcontrol.RateLimiter
	seen    departures
}

// NewRoster returns a roster of no cluster yet.
func NewRoster(instances *Instances, recorder Recorder, log *zap.Logger) *Roster {
	return &Roster{instances: instances, recorder: recorder, log: log, clusters: map[string]*roll{}}
}

// Run looks after the Nodes of one cluster until ctx ends.
func (r *Roster) Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	l := &roll{
		Roster: r, cluster: c, client: client, nodes: nodes.Lister(), seen: departures{},
		limit: flowcontrol.NewTokenBucketRateLimiter(removalRate, removalBurst),
	}
	synced := nodes.Informer().HasSynced
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), synced) {
		return ctx.Err()
	}
	r.enter(c.Name, l)
	defer r.enter(c.Name, nil)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("Nodes were not held against EC2, and none is removed", zap.String("cluster", c.Name), zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *Roster) enter(cluster string, l *roll) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l == nil {
		delete(r.clusters, cluster)
	} else {
		r.clusters[cluster] = l
	}
}

// look holds the Nodes that are due against EC2 and removes those that are gone.
func (l *roll) look(ctx context.Context) error {
	all, err := l.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	now := time.Now()
	due := l.seen.due(all, now)
	ids := make([]string, 0, len(due))
	for _, node := range due {
		ids = append(ids, instanceOf(node))
	}
	known, err := l.instances.States(ctx, ids)
	if err != nil {
		return err
	}
	var failed []error
	for _, gone := range l.seen.look(due, known, now) {
		if !l.limit.TryAccept() {
			break // the next look finds it again
		}
		failed = append(failed, l.remove(ctx, gone))
	}
	return errors.Join(failed...)
}

// Vacate removes the Node that has the holder's name if it is that of an instance that is
// gone. An error means that it might still be there: the holder must not have the name yet.
// Of a cluster that is not on the roster it knows nothing, and that is an error too.
func (r *Roster) Vacate(ctx context.Context, cluster string, holder Instance) error {
	r.mu.Lock()
	l := r.clusters[cluster]
	r.mu.Unlock()
	if l == nil {
		return fmt.Errorf("the Nodes of cluster %s are not known yet", cluster)
	}
	node, err := l.nodes.Get(holder.PrivateDNSName)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the Node %s: %w", holder.PrivateDNSName, err)
	}
	former := instanceOf(node)
	if former == "" || former == holder.ID {
		return nil
	}
	// That another instance runs under the name is the second witness.
	reason := fmt.Sprintf("instance %s is gone, and its name is that of instance %s", former, holder.ID)
	instance, err := r.instances.ByID(ctx, former)
	switch {
	case errors.Is(err, ErrNoInstance):
	case err != nil:
		return err
	case !instance.mayBe(node.Name):
		reason = fmt.Sprintf("instance %s is that of another Node, and the name is that of instance %s", former, holder.ID)
	case instance.State != stateTerminated:
		return fmt.Errorf("the Node %s is that of instance %s, which is %s", node.Name, former, instance.State)
	}
	return l.remove(ctx, departed{node, ClassSuperseded, reason})
}

// ByID is Instances.ByID, so that a Roster is all that the token webhook needs.
func (r *Roster) ByID(ctx context.Context, id string) (Instance, error) {
	return r.instances.ByID(ctx, id)
}

// remove deletes a Node, if it is still the one that was looked at.
func (l *roll) remove(ctx context.Context, gone departed) error {
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	err := l.client.CoreV1().Nodes().Delete(ctx, gone.node.Name, meta.DeleteOptions{Preconditions: meta.NewUIDPreconditions(string(gone.node.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the Node %s, as %s: %w", gone.node.Name, gone.reason, err)
	}
	l.log.Info("removed a Node", zap.String("cluster", l.cluster.Name), zap.String("node", gone.node.Name), zap.String("why", gone.reason))
	l.recorder.Record(Event{
		Cluster: l.cluster.Name, Action: ActionRemove, Node: gone.node.Name, Instance: instanceOf(gone.node),
		Class: gone.class, Reason: gone.reason,
	})
	if _, err := l.client.CoreV1().Events(meta.NamespaceDefault).Create(ctx, removalEvent(gone), meta.CreateOptions{}); err != nil {
		l.log.Warn("the removal of a Node has no Event", zap.String("node", gone.node.Name), zap.Error(err))
	}
	return nil
}

func removalEvent(gone departed) *core.Event {
	now := meta.Now()
	return &core.Event{
		ObjectMeta:     meta.ObjectMeta{GenerateName: gone.node.Name + "."},
		InvolvedObject: core.ObjectReference{APIVersion: "v1", Kind: "Node", Name: gone.node.Name, UID: gone.node.UID},
		Type:           core.EventTypeNormal, Reason: reasonRemoved, Message: "Removed the Node: " + gone.reason,
		Source:         core.EventSource{Component: "ovenbird"},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
}
