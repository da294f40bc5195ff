package access

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// label marks the RoleBindings that are kept here; what has it and is not wanted goes.
	label        = "ovenbird.dev/access-policies"
	fieldManager = "ovenbird"
	// writers write at once: a pattern may be for a thousand namespaces.
	writers = 8
	// lookTimeout bounds one look with all its writes.
	lookTimeout = time.Minute
	// resync looks at everything again, in case something fell through.
	resync     = 5 * time.Minute
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Entries knows the access entries of clusters; *registry.Registry does.
type Entries interface {
	ListAccessEntries(ctx context.Context, cluster string) ([]registry.AccessEntry, error)
	WatchAccessEntries(ctx context.Context, cluster string) <-chan string
}

// Bindings keeps, in a cluster, the RoleBindings that its access entries need. All fields
// are required.
type Bindings struct {
	Entries Entries
	Log     *zap.Logger
}

// Run keeps the bindings of one cluster until ctx ends. It looks at everything when it
// starts, so what an earlier run left is made right, and again whenever an access entry, a
// namespace or one of the bindings changes.
func (b Bindings) Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error {
	all := informers.NewSharedInformerFactory(client, 0)
	ours := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *meta.ListOptions) { o.LabelSelector = label }))
	namespaces, bindings := all.Core().V1().Namespaces(), ours.Rbac().V1().RoleBindings()
	changed := make(chan struct{}, 1)
	for _, informer := range []cache.SharedIndexInformer{namespaces.Informer(), bindings.Informer()} {
		if _, err := informer.AddEventHandler(tell(changed)); err != nil {
			return fmt.Errorf("watch namespaces and role bindings of cluster %s: %w", c.Name, err)
		}
	}
	for _, factory := range []informers.SharedInformerFactory{all, ours} {
		factory.StartWithContext(ctx)
		defer factory.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), namespaces.Informer().HasSynced, bindings.Informer().HasSynced) {
		return ctx.Err()
	}
	keeper := keeper{b, c.Name, client, namespaces.Lister(), bindings.Lister()}
	entries := b.Entries.WatchAccessEntries(ctx, c.Name)
	for failures := 0; ; {
		pause := resync
		if err := keeper.look(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			pause = min(lastRetry, firstRetry<<min(failures, 16))
			pause = pause/2 + rand.N(pause/2)
			failures++
			b.Log.Warn("access policies are not all in effect", zap.String("cluster", c.Name), zap.Duration("next_look_in", pause), zap.Error(err))
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-entries:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// tell asks for a look at every event; those that nobody has acted on are one.
func tell(changed chan<- struct{}) cache.ResourceEventHandler {
	look := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, now any) { look(now) }, DeleteFunc: look}
}

// keeper is Bindings at work in one cluster.
type keeper struct {
	Bindings
	cluster    string
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
	bindings   rbaclisters.RoleBindingLister
}

// look makes the cluster's bindings what its entries want now.
func (k keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	entries, err := k.Entries.ListAccessEntries(ctx, k.cluster)
	if err != nil {
		return err
	}
	namespaces, err := k.namespaces.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	present, err := k.bindings.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list role bindings: %w", err)
	}
	names := make([]string, len(namespaces))
	for i, namespace := range namespaces {
		names[i] = namespace.Name
	}
	missing := wanted(entries, names)
	var group errgroup.Group
	group.SetLimit(writers)
	for _, existing := range present {
		b := binding{existing.Namespace, existing.Name}
		groups, want := missing[b]
		switch {
		case !want:
			group.Go(func() error { return k.remove(ctx, b) })
		case isRight(existing, groups):
			delete(missing, b)
		}
	}
	for b, groups := range missing {
		group.Go(func() error { return k.write(ctx, b, groups) })
	}
	return group.Wait()
}

func isRight(existing *rbac.RoleBinding, groups []string) bool {
	return existing.RoleRef == rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: existing.Name} &&
		slices.EqualFunc(existing.Subjects, groups, func(s rbac.Subject, group string) bool {
			return s == rbac.Subject{APIGroup: rbac.GroupName, Kind: rbac.GroupKind, Name: group}
		})
}

// write makes a binding, or makes it right. Kubernetes lets nobody change the role of a
// binding: one that is for another role goes first.
func (k keeper) write(ctx context.Context, b binding, groups []string) error {
	object := apply.RoleBinding(b.role, b.namespace).WithLabels(map[string]string{label: ""}).
		WithRoleRef(apply.RoleRef().WithAPIGroup(rbac.GroupName).WithKind("ClusterRole").WithName(b.role))
	for _, group := range groups {
		object.WithSubjects(apply.Subject().WithAPIGroup(rbac.GroupName).WithKind(rbac.GroupKind).WithName(group))
	}
	put := func() error {
		_, err := k.client.RbacV1().RoleBindings(b.namespace).Apply(ctx, object, meta.ApplyOptions{FieldManager: fieldManager, Force: true})
		return err
	}
	err := put()
	if apierrors.IsInvalid(err) {
		err = errors.Join(k.remove(ctx, b), put())
	}
	switch {
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, core.NamespaceTerminatingCause):
		return nil // the namespace is going, or gone
	case err != nil:
		return fmt.Errorf("bind %s in namespace %s: %w", b.role, b.namespace, err)
	}
	k.Log.Info("access policy bound", zap.String("cluster", k.cluster), zap.String("namespace", b.namespace), zap.String("role", b.role), zap.Strings("groups", groups))
	return nil
}

func (k keeper) remove(ctx context.Context, b binding) error {
	err := k.client.RbacV1().RoleBindings(b.namespace).Delete(ctx, b.role, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unbind %s in namespace %s: %w", b.role, b.namespace, err)
	}
	k.Log.Info("access policy unbound", zap.String("cluster", k.cluster), zap.String("namespace", b.namespace), zap.String("role", b.role))
	return nil
}
