package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

const nodesPath = "/api/v1/nodes"

// How the API server merges a patch.
const (
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// PatchNodeStatus sets those conditions of the Node name that are given, by their types, and
// those annotations, which are no part of the status but may be written with it, and leaves
// the others alone. A node may do so to its own Node.
func (c *Client) PatchNodeStatus(ctx context.Context, name string, conditions []Condition, annotations map[string]string) error {
	var patch struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations,omitempty"`
		} `json:"metadata"`
		Status struct {
			Conditions []Condition `json:"conditions,omitempty"` // null would take them all away
		} `json:"status"`
	}
	patch.Metadata.Annotations, patch.Status.Conditions = annotations, conditions
	// By the type of a condition: a JSON merge patch would replace the whole list.
	if err := c.patchNode(ctx, strategicPatch, name, "status", patch); err != nil {
		return fmt.Errorf("patch the status of Node %s: %w", name, err)
	}
	return nil
}

// patchNode patches the Node name, or a subresource of it.
func (c *Client) patchNode(ctx context.Context, kind, name, subresource string, patch any) error {
	path := objectPath(nodesPath, name, subresource)
	if err := c.do(ctx, call{method: http.MethodPatch, path: path, contentType: kind, body: patch}, nil); err != nil {
		return explain(err)
	}
	return nil
}

// objectPath is where an object is: below path, by elements, of which those that are empty
// stand for nothing.
func objectPath(path string, elements ...string) string {
	for _, element := range elements {
		if element != "" {
			path += "/" + url.PathEscape(element)
		}
	}
	return path
}
