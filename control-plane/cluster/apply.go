package cluster

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

const (
	// fieldManager owns, in the cluster, the fields that the service applies.
	fieldManager = "ovenbird"
	applyTimeout = 30 * time.Second
)

// apply writes access rules and add-ons into the cluster by server-side apply, as the
// service's own user: that all of it succeeds is also the proof that the control plane
// accepts authenticated writes.
func apply(ctx context.Context, description component.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	objects, err := manifests(description)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(client(description))
	if err != nil {
		return fmt.Errorf("make client for cluster %s: %w", description.Name, err)
	}
	var group errgroup.Group
	for _, object := range objects {
		group.Go(func() error {
			if _, err := resource(client, object).Apply(ctx, object.GetName(), object,
				metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
				return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// resource finds where an object is written. All kinds among the add-ons have regular
// plurals, so the API server need not be asked.
func resource(client dynamic.Interface, object *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	if namespace := object.GetNamespace(); namespace != "" {
		return client.Resource(plural).Namespace(namespace)
	}
	return client.Resource(plural)
}
