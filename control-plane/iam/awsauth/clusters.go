package awsauth

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	namespace = meta.NamespaceSystem
	configMap = "aws-auth"
)

// Clusters follows the ConfigMaps of all clusters. It is safe for concurrent use.
type Clusters struct {
	log *zap.Logger

	mu       sync.RWMutex
	mappings map[string]Mappings // by cluster
}

// NewClusters returns Clusters that knows of none before Run.
func NewClusters(log *zap.Logger) *Clusters {
	return &Clusters{log: log, mappings: map[string]Mappings{}}
}

// Entry is Mappings.Entry for a cluster. Until its ConfigMap has been read, the error is
// another than registry.ErrNotFound.
func (s *Clusters) Entry(cluster, principalARN string) (registry.AccessEntry, error) {
	s.mu.RLock()
	mappings, known := s.mappings[cluster]
	s.mu.RUnlock()
	if !known {
		return registry.AccessEntry{}, fmt.Errorf("the ConfigMap %s of cluster %s has not been read yet", configMap, cluster)
	}
	entry, err := mappings.Entry(principalARN)
	entry.Cluster = cluster
	return entry, err
}

// Run follows the ConfigMap of one cluster until ctx ends. One that cannot be read leaves
// the last good one in force.
func (s *Clusters) Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error {
	s.forget(c.Name) // a cluster before it may have had the name
	log := s.log.With(zap.String("cluster", c.Name))
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *meta.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(meta.ObjectNameField, configMap).String()
		}))
	read := func(object any) {
		found, ok := object.(*core.ConfigMap)
		if !ok {
			return
		}
		mappings, err := Parse(found.Data)
		if err != nil {
			log.Error("the ConfigMap aws-auth cannot be read, so the last good one stays in force", zap.String("version", found.ResourceVersion), zap.Error(err))
			return
		}
		s.set(c.Name, mappings)
		log.Info("the ConfigMap aws-auth has been read", zap.String("version", found.ResourceVersion), zap.Int("principals", len(mappings.principals)), zap.Int("accounts", len(mappings.accounts)))
	}
	handled, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    read,
		UpdateFunc: func(_, object any) { read(object) },
		DeleteFunc: func(any) { s.set(c.Name, Mappings{}) },
	})
	if err != nil {
		return fmt.Errorf("watch the ConfigMap %s of cluster %s: %w", configMap, c.Name, err)
	}
	factory.StartWithContext(ctx)
	defer s.forget(c.Name) // after the last handler
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), handled.HasSynced) {
		return ctx.Err()
	}
	s.known(c.Name)
	<-ctx.Done()
	return ctx.Err()
}

func (s *Clusters) set(cluster string, mappings Mappings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mappings[cluster] = mappings
}

// known records that the cluster's ConfigMap has been looked for: without a good one,
// nobody is mapped.
func (s *Clusters) known(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mappings[cluster]; !ok {
		s.mappings[cluster] = Mappings{}
	}
}

func (s *Clusters) forget(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mappings, cluster)
}
