package e2e

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// checkSpotInterruption announces the interruption of node, which two pods of a Deployment
// run on, and follows them away from it: never fewer of them Ready than their disruption
// budget says, none on the node in the end, and all before the instance goes.
func checkSpotInterruption(t *testing.T, l *lab, node string) {
	const grace = 2 * time.Minute // what EC2 gives
	config := l.restConfig(t)
	config.Timeout = 0 // it would end the watch
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	replicas, one := int32(2), intstr.FromInt32(1)
	labels := map[string]string{"app": "movable"}
	pod := busybox("movable", "", "exec sleep 3600")
	// They prefer the node, whatever the taint of its tag says, and may go elsewhere.
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectPreferNoSchedule}}
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
		Weight: 100,
		Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}}},
	}}}}
	_, err = client.PolicyV1().PodDisruptionBudgets("default").Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "movable"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	deployment, err := client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "movable"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	// One watch tells of every change in its order, so no moment is missed.
	pods, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(deployment.Spec.Selector)})
	if err != nil {
		t.Fatal(err)
	}
	defer pods.Stop()
	ready := map[string]string{} // pod -> node
	await := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			event, ok := <-pods.ResultChan()
			if !ok {
				t.Fatalf("%s: the watch ended; Ready are %v", what, ready)
			}
			pod, isPod := event.Object.(*corev1.Pod)
			if !isPod {
				t.Fatalf("%s: the watch sent %+v", what, event.Object)
			}
			if event.Type != watch.Deleted && pod.DeletionTimestamp == nil && podReady(pod) {
				ready[pod.Name] = pod.Spec.NodeName
			} else {
				delete(ready, pod.Name)
			}
		}
	}
	on := func(node string) (n int) {
		for _, at := range ready {
			if at == node {
				n++
			}
		}
		return n
	}
	await("two pods on the node", func() bool { return on(node) == int(replicas) })

	object, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	announced := time.Now()
	l.ctl(t, time.Minute, "announce", "spot-interruption", path.Base(object.Spec.ProviderID))
	await("two pods elsewhere", func() bool {
		if len(ready) < one.IntValue() {
			t.Errorf("%d pods are Ready, the budget says %d", len(ready), one.IntValue())
		}
		return on(node) == 0 && len(ready) == int(replicas)
	})
	if took := time.Since(announced); took > grace {
		t.Errorf("the pods had moved after %s, and the instance goes after %s", took, grace)
	}
	if object, err = client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if !object.Spec.Unschedulable || object.Annotations["ovenbird.dev/cordoned"] == "" {
		t.Errorf("the node is not cordoned by its agent: unschedulable %v, annotations %v", object.Spec.Unschedulable, object.Annotations)
	}
}

// checkWarmPool starts an instance into a warm pool, follows it to where it waits, and wants
// no Node of it until Auto Scaling takes it into service.
func checkWarmPool(ctx context.Context, t *testing.T, l *lab) {
	var launched []struct {
		InstanceID       string `json:"instanceId"`
		PrivateIPAddress string `json:"privateIpAddress"`
	}
	out := l.ctl(t, 2*time.Minute, "run-instances", "--user-data", l.state+"/user-data",
		"--iam-instance-profile", "ovenbird-node", "--tag", "kubernetes.io/cluster/"+clusterName+"=owned", "--output", "json")
	if err := json.Unmarshal([]byte(out), &launched); err != nil || len(launched) != 1 {
		t.Fatalf("read what was launched: %v\n%s", err, out)
	}
	instance := launched[0]
	state := func(state string) {
		l.ctl(t, time.Minute, "announce", "lifecycle-state", instance.InstanceID, "--state", state)
	}
	state("Warmed:Running")
	for _, done := range []string{"containerd done", "api-server done"} {
		l.awaitConsole(t, instance.InstanceID, done, 5*time.Minute)
	}

	name := "ip-" + strings.ReplaceAll(instance.PrivateIPAddress, ".", "-") + ".us-west-2.compute.internal"
	if _, err := l.client(t).CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the warm instance has a Node (%v)", err)
	}
	state("InService")
	l.run(t, 5*time.Minute, "scripts/await-node", instance.PrivateIPAddress)
	l.awaitConsole(t, instance.InstanceID, "warm-pool done", time.Minute)
}
