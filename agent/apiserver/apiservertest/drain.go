package apiservertest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SetPod makes pod be there as it is.
func (s *Server) SetPod(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[pod.Namespace+"/"+pod.Name] = pod.DeepCopy()
}

// DeletePod makes pod "namespace/name" be gone.
func (s *Server) DeletePod(pod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, pod)
}

// SetBudget makes budget keep pod "namespace/name" from eviction, "" nothing.
func (s *Server) SetBudget(pod, budget string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budgets[pod] = budget
}

// Pods returns "namespace/name" of the pods that are there and not on their way out.
func (s *Server) Pods() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var running []string
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		if s.pods[name].DeletionTimestamp == nil {
			running = append(running, name)
		}
	}
	return running
}

// serveDrain answers what a node may ask about itself and its pods, and says whether r is
// that.
func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request, user string) bool {
	name, ok := strings.CutPrefix(user, "system:node:")
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	node := s.nodes[name]
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	switch {
	case node != nil && r.URL.Path == "/api/v1/nodes/"+name && r.Method == http.MethodGet:
		respond(w, http.StatusOK, node)
	case r.URL.Path == "/api/v1/pods" && r.Method == http.MethodGet && r.URL.Query().Get("fieldSelector") == "spec.nodeName="+name:
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
		for _, pod := range slices.Sorted(maps.Keys(s.pods)) {
			if s.pods[pod].Spec.NodeName == name {
				list.Items = append(list.Items, *s.pods[pod])
			}
		}
		respond(w, http.StatusOK, list)
	case r.URL.Path == "/api/v1/namespaces/default/events" && r.Method == http.MethodPost:
		s.createEvent(w, r, name)
	case len(path) == 5 && path[0] == "namespaces" && path[2] == "pods" && path[4] == "eviction" && r.Method == http.MethodPost:
		s.evict(w, r, path[1]+"/"+path[3], name)
	default:
		return false
	}
	return true
}

// Events returns the events that nodes have made, the earliest first.
func (s *Server) Events() []corev1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// createEvent takes an event of node's own. s.mu is held.
func (s *Server) createEvent(w http.ResponseWriter, r *http.Request, node string) {
	var event corev1.Event
	decoder := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&event)
	about := event.InvolvedObject
	if err != nil || event.GenerateName == "" || event.Namespace != "default" || about.Kind != "Node" || about.Name != node {
		fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("not an event of Node %s: %+v, %v", node, event, err))
		return
	}
	s.events = append(s.events, event)
	respond(w, http.StatusCreated, event)
}

// evict answers as the Eviction API does, a budget in the way included. A pod with a grace
// period stays, on its way out, until DeletePod; others are gone. s.mu is held.
func (s *Server) evict(w http.ResponseWriter, r *http.Request, name, node string) {
	var eviction struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta     `json:"metadata"`
		DeleteOptions   *metav1.DeleteOptions `json:"deleteOptions"`
	}
	pod := s.pods[name]
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&eviction)
	switch {
	case err != nil || eviction.APIVersion != "policy/v1" || eviction.Kind != "Eviction" || eviction.Metadata.Namespace+"/"+eviction.Metadata.Name != name:
		fail(w, http.StatusBadRequest, fmt.Sprintf("not an Eviction of %s: %+v, %v", name, eviction, err))
	case pod == nil:
		fail(w, http.StatusNotFound, fmt.Sprintf("pods %q not found", name))
	case pod.Spec.NodeName != node:
		fail(w, http.StatusForbidden, fmt.Sprintf("node %q can only evict pods with spec.nodeName set to itself", node))
	case s.budgets[name] != "":
		respond(w, http.StatusTooManyRequests, metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusTooManyRequests,
			Reason: metav1.StatusReasonTooManyRequests, Message: "Cannot evict pod as it would violate the pod's disruption budget.",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: "DisruptionBudget", Message: fmt.Sprintf("The disruption budget %s needs 1 healthy pods and has 1 currently", s.budgets[name]),
			}}},
		})
	default:
		if grace := pod.Spec.TerminationGracePeriodSeconds; grace != nil && *grace > 0 {
			pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		} else {
			delete(s.pods, name)
		}
		respond(w, http.StatusCreated, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
	}
}
