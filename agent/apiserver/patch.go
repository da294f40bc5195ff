package apiserver

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PatchNodeStatus sets those conditions of the Node name that are given, by their types,
// and leaves the others alone. A node may do so to its own Node.
func (c *Client) PatchNodeStatus(ctx context.Context, name string, conditions []corev1.NodeCondition) error {
	var patch struct {
		Status struct {
			Conditions []corev1.NodeCondition `json:"conditions"`
		} `json:"status"`
	}
	patch.Status.Conditions = conditions
	// By the type of a condition: a JSON merge patch would replace the whole list.
	if err := c.patchNode(ctx, types.StrategicMergePatchType, name, patch, "status"); err != nil {
		return fmt.Errorf("patch the conditions of Node %s: %w", name, err)
	}
	return nil
}

// AnnotateNode sets one annotation of the Node name. A node may do so to its own Node.
func (c *Client) AnnotateNode(ctx context.Context, name, key, value string) error {
	var patch struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	patch.Metadata.Annotations = map[string]string{key: value}
	if err := c.patchNode(ctx, types.MergePatchType, name, patch); err != nil {
		return fmt.Errorf("annotate Node %s with %s: %w", name, key, err)
	}
	return nil
}

func (c *Client) patchNode(ctx context.Context, kind types.PatchType, name string, patch any, subresources ...string) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err = c.core.Patch(kind).Resource("nodes").Name(name).SubResource(subresources...).MaxRetries(0).Body(data).Do(ctx).Error()
	if err != nil {
		return explain(err)
	}
	return nil
}
