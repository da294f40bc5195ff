package apiservertest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

const nodesPath = "/api/v1/nodes/"

// Node returns the Node name as it is, nil when there is none.
func (s *Server) Node(name string) *corev1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[name].DeepCopy()
}

// patchNode merges as the content type says. As at kube-apiserver, a node may patch only
// itself, status changes only through /status, and only status does there, metadata aside.
func (s *Server) patchNode(w http.ResponseWriter, r *http.Request, user string) {
	name, subresource, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, nodesPath), "/")
	patch, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	node := s.nodes[name]
	switch {
	case s.NoPatches || user != "system:node:"+name || subresource != "" && subresource != "status":
		fail(w, http.StatusForbidden, user+" may not patch that")
		return
	case node == nil:
		fail(w, http.StatusNotFound, "no Node "+name)
		return
	}
	patched, status, err := merge(node, patch, types.PatchType(r.Header.Get("Content-Type")))
	if err != nil {
		fail(w, status, err.Error())
		return
	}
	if subresource == "status" {
		patched.Spec = node.Spec
	} else {
		patched.Status = node.Status
	}
	s.nodes[name] = patched
	s.notify()
	respond(w, http.StatusOK, patched)
}

func merge(node *corev1.Node, patch []byte, kind types.PatchType) (*corev1.Node, int, error) {
	original, err := json.Marshal(node)
	if err != nil {
		return nil, http.StatusInternalServerError, err
	}
	var merged []byte
	switch kind {
	case types.StrategicMergePatchType:
		merged, err = strategicpatch.StrategicMergePatch(original, patch, corev1.Node{})
	case types.MergePatchType:
		var from, by any
		if err = errors.Join(json.Unmarshal(original, &from), json.Unmarshal(patch, &by)); err == nil {
			merged, err = json.Marshal(mergeJSON(from, by))
		}
	default:
		return nil, http.StatusUnsupportedMediaType, errors.New("no patch has the content type " + string(kind))
	}
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	patched := &corev1.Node{}
	return patched, http.StatusUnprocessableEntity, json.Unmarshal(merged, patched)
}

// mergeJSON applies a JSON merge patch (RFC 7396, 2).
func mergeJSON(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	fields, ok := target.(map[string]any)
	if !ok {
		fields = map[string]any{}
	}
	for key, value := range changes {
		if value == nil {
			delete(fields, key)
		} else {
			fields[key] = mergeJSON(fields[key], value)
		}
	}
	return fields
}
