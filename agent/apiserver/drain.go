package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// CordonAnnotation is on a Node that the agent has cordoned; its value says why and when.
const CordonAnnotation = "ovenbird.dev/cordoned"

// ErrBlocked means that a pod may not be evicted now. The error says by which disruption
// budget.
var ErrBlocked = errors.New("may not be evicted now")

// Cordon makes the Node name unschedulable and says why in CordonAnnotation. A Node that is
// unschedulable already stays as it is: somebody else's cordon stays theirs.
func (c *Client) Cordon(ctx context.Context, name, reason string, now time.Time) error {
	node, err := c.node(ctx, name)
	if err == nil && !node.Spec.Unschedulable {
		err = c.setCordon(ctx, node, true, reason+" at "+now.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fmt.Errorf("cordon Node %s: %w", name, err)
	}
	return nil
}

// Uncordon undoes Cordon, and leaves a cordon alone that is somebody else's.
func (c *Client) Uncordon(ctx context.Context, name string) error {
	node, err := c.node(ctx, name)
	if err == nil && node.Annotations[CordonAnnotation] != "" {
		err = c.setCordon(ctx, node, false, "")
	}
	if err != nil {
		return fmt.Errorf("uncordon Node %s: %w", name, err)
	}
	return nil
}

func (c *Client) node(ctx context.Context, name string) (*Node, error) {
	node := &Node{}
	if err := c.do(ctx, call{method: http.MethodGet, path: objectPath(nodesPath, name)}, node); err != nil {
		return nil, explain(err)
	}
	return node, nil
}

// setCordon changes node unless it has changed since it was read.
func (c *Client) setCordon(ctx context.Context, node *Node, unschedulable bool, why string) error {
	annotations := map[string]any{CordonAnnotation: nil}
	if why != "" {
		annotations[CordonAnnotation] = why
	}
	return c.patchNode(ctx, mergePatch, node.Name, "", map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "annotations": annotations},
		"spec":     map[string]any{"unschedulable": unschedulable},
	})
}

// Warn makes a Warning event of the Node name, in the default namespace as kubelet's are. It
// outlives the Node by what the API server keeps events for, an hour by default.
func (c *Client) Warn(ctx context.Context, name, reason, message string, now time.Time) error {
	const namespace = "default"
	at := now.UTC().Format(time.RFC3339)
	err := c.do(ctx, call{
		method: http.MethodPost, path: objectPath("/api/v1/namespaces", namespace, "events"),
		body: map[string]any{
			"apiVersion": "v1", "kind": "Event",
			"metadata": map[string]any{"namespace": namespace, "generateName": name + "."},
			// kubelet gives the name for the UID, and kubectl describe looks for that.
			"involvedObject": map[string]any{"kind": "Node", "name": name, "uid": name},
			"type":           "Warning", "reason": reason, "message": message,
			"source":         map[string]any{"component": "ovenbird-agent", "host": name},
			"firstTimestamp": at, "lastTimestamp": at, "count": 1,
		},
	}, nil)
	if err != nil {
		return fmt.Errorf("make an event of Node %s: %w", name, explain(err))
	}
	return nil
}

// PodsOfNode returns the pods that are bound to the Node name.
func (c *Client) PodsOfNode(ctx context.Context, name string) ([]Pod, error) {
	var pods struct {
		Items []Pod `json:"items"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "/api/v1/pods", query: url.Values{"fieldSelector": {"spec.nodeName=" + name}},
	}, &pods)
	if err != nil {
		return nil, fmt.Errorf("list the pods of Node %s: %w", name, explain(err))
	}
	return pods.Items, nil
}

// Evict asks for the eviction of pod. It is an ErrBlocked when a disruption budget is
// against it, and no error when the pod is gone.
func (c *Client) Evict(ctx context.Context, pod *Pod) error {
	err := c.do(ctx, call{
		method: http.MethodPost, path: objectPath("/api/v1/namespaces", pod.Namespace, "pods", pod.Name, "eviction"),
		body: map[string]any{
			"apiVersion": "policy/v1", "kind": "Eviction",
			"metadata": map[string]any{"namespace": pod.Namespace, "name": pod.Name},
			// A pod of the same name that is made meanwhile is another one.
			"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": pod.UID}},
		},
	}, nil)
	if err == nil {
		return nil
	}
	if status := refusal(err); status != nil {
		switch {
		case status.Code == http.StatusNotFound, status.Code == http.StatusConflict && status.Reason != alreadyExists:
			return nil
		case status.Code == http.StatusTooManyRequests:
			said := status.Message
			if len(status.causes) > 0 {
				said = status.causes[0] // names the budget
			}
			return fmt.Errorf("pod %s/%s %w: %s", pod.Namespace, pod.Name, ErrBlocked, said)
		}
	}
	return fmt.Errorf("evict pod %s/%s: %w", pod.Namespace, pod.Name, explain(err))
}
