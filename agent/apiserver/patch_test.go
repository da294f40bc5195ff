package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
)

func TestConditionsAreMergedByTheirTypes(t *testing.T) {
	server, c := start(t)
	server.SetNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"},
			{Type: "Odd", Status: corev1.ConditionFalse, Reason: "NothingOdd"},
		}},
	})
	err := c.PatchNodeStatus(t.Context(), "a", []apiserver.Condition{
		{Type: "Odd", Status: apiserver.True, Reason: "Odd"}, {Type: "New", Status: apiserver.False, Reason: "NotNew"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[corev1.NodeConditionType]string{}
	for _, condition := range server.Node("a").Status.Conditions {
		got[condition.Type] = string(condition.Status) + " " + condition.Reason
	}
	if len(got) != 3 || got[corev1.NodeReady] != "True KubeletReady" || got["Odd"] != "True Odd" || got["New"] != "False NotNew" {
		t.Errorf("got %v", got)
	}
}

func TestAnAnnotationLeavesTheOthersAndTheConditions(t *testing.T) {
	server, c := start(t)
	server.SetNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{"kept": "1", "changed": "2"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	})
	if err := c.PatchNodeStatus(t.Context(), "a", nil, map[string]string{"changed": `{"a":"<3>"}`}); err != nil {
		t.Fatal(err)
	}
	if got := server.Node("a").Annotations; len(got) != 2 || got["kept"] != "1" || got["changed"] != `{"a":"<3>"}` {
		t.Errorf("got %v", got)
	}
	if got := server.Node("a").Status.Conditions; len(got) != 1 || got[0].Type != corev1.NodeReady {
		t.Errorf("the conditions are %+v", got)
	}
}

func TestWhatANodeMayNotPatchIsAnError(t *testing.T) {
	server, c := start(t)
	server.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	for what, name := range map[string]string{"another Node": "b", "a Node that is not there": "a"} {
		if err := c.PatchNodeStatus(t.Context(), name, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "patch the status of Node "+name+": ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
