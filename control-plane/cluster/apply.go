package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

const (
	// FieldManager owns, in a cluster, the fields that the service applies.
	FieldManager = "ovenbird"
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
	config := client(description)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	requests, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return fmt.Errorf("make client for cluster %s: %w", description.Name, err)
	}
	var group errgroup.Group
	for _, object := range objects {
		group.Go(func() error {
			body, err := json.Marshal(object)
			if err == nil {
				err = requests.Patch(types.ApplyYAMLPatchType).AbsPath(apiPath(object)).
					Param("fieldManager", FieldManager).Param("force", "true").Body(body).Do(ctx).Error()
			}
			if err != nil {
				return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// apiPath is where the API server keeps an object. All kinds among the add-ons have
// regular plurals, so it need not be asked for them.
func apiPath(object *unstructured.Unstructured) string {
	kind := object.GroupVersionKind()
	path := "/apis/" + kind.Group + "/" + kind.Version
	if kind.Group == "" {
		path = "/api/" + kind.Version
	}
	if namespace := object.GetNamespace(); namespace != "" {
		path += "/namespaces/" + namespace
	}
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	return path + "/" + plural.Resource + "/" + object.GetName()
}
