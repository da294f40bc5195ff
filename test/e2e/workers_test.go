package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Stacks of checkWorkers, and the cluster whose workers they are.
const (
	networkStack = "mill-network"
	workersStack = "mill-workers"
	mill         = "mill"

	drainTimeout = 2 * time.Minute
)

// checkWorkers walks the AWS CLI and kubectl through the life of workers: a network, a
// cluster in it, two nodes, the same nodes on another AMI while an application stays up, and
// nothing left in the end.
func checkWorkers(ctx context.Context, t *testing.T, l *lab) {
	requireCLI(t)
	l.run(t, 5*time.Minute, "scripts/remove-nodes") // they would take their share of the machine

	l.deploy(t, networkStack, "network.yaml", map[string]string{"VpcCidr": "10.1.0.0/16", "Outbound": "endpoints"})
	network := l.outputs(t, networkStack)
	l.run(t, time.Minute, "aws", "eks", "create-cluster", "--name", mill, "--role-arn", "arn:aws:iam::111122223333:role/cluster",
		"--resources-vpc-config", "subnetIds="+network["PrivateSubnetIds"])
	l.run(t, 10*time.Minute, "aws", "eks", "wait", "cluster-active", "--name", mill)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	l.run(t, time.Minute, "aws", "eks", "update-kubeconfig", "--name", mill, "--kubeconfig", kubeconfig)

	parameters := l.workerParameters(t, network)
	created := make(chan string, 1)
	go func() {
		out, stderr, err := l.tryDeploy(workersStack, "workers.yaml", parameters)
		created <- explain(out, stderr, err)
	}()
	// The nodes' role must be let in before the nodes can be Ready, for which the stack waits.
	l.admitRole(ctx, t, workersStack, created)
	if failed := <-created; failed != "" {
		t.Fatalf("the stack of workers: %s\n%s", failed, l.events(t, workersStack))
	}
	client := millClient(t, l, kubeconfig)
	before := readyNodes(ctx, t, client)
	if len(before) != 2 {
		t.Fatalf("the stack is complete and the Ready nodes are %v, want two", before)
	}

	steady := startSteady(ctx, t, client)
	parameters["ImageId"], parameters["ImageParameter"] = "", parameter // deploy keeps what is not given
	out, stderr, err := l.tryDeploy(workersStack, "workers.yaml", parameters)
	if failed := explain(out, stderr, err); failed != "" {
		t.Fatalf("the update to another AMI: %s\n%s", failed, l.events(t, workersStack))
	}
	steady.check(t)
	after := readyNodes(ctx, t, client)
	if len(after) != 2 || slices.ContainsFunc(after, func(name string) bool { return slices.Contains(before, name) }) {
		t.Errorf("the Ready nodes are %v, and were %v before the update", after, before)
	}
	t.Run("user-data with a mistake is rolled back, and the nodes stay", func(t *testing.T) {
		checkRollback(ctx, t, l, client, parameters, after)
	})
	t.Run("a budget that never lets go is honoured until the deadline, and then named", func(t *testing.T) {
		checkBlockedScaleIn(ctx, t, l, client)
	})

	l.run(t, 10*time.Minute, "bin/ovenbird", "workers", "delete", mill, workersStack, "--yes")
	if _, _, err := l.try(t, time.Minute, "aws", "cloudformation", "describe-stacks", "--stack-name", workersStack); err == nil {
		t.Error("the stack of workers is still there")
	}
	l.run(t, time.Minute, "aws", "eks", "delete-cluster", "--name", mill)
	l.run(t, 10*time.Minute, "aws", "eks", "wait", "cluster-deleted", "--name", mill)
	l.run(t, time.Minute, "aws", "cloudformation", "delete-stack", "--stack-name", networkStack)
	l.run(t, 5*time.Minute, "aws", "cloudformation", "wait", "stack-delete-complete", "--stack-name", networkStack)
	for what, count := range map[string][]string{
		"VPCs":             {"ec2", "describe-vpcs", "--query", "length(Vpcs)"}, // the lab's own stays
		"launch templates": {"ec2", "describe-launch-templates", "--query", "length(LaunchTemplates)"},
		"groups":           {"autoscaling", "describe-auto-scaling-groups", "--query", "length(AutoScalingGroups)"},
	} {
		want := map[bool]string{true: "1", false: "0"}[what == "VPCs"]
		if got := strings.TrimSpace(l.run(t, time.Minute, "aws", append(count, "--output", "json")...)); got != want {
			t.Errorf("%s: %s are left, want %s", what, got, want)
		}
	}
}

// workerParameters are those of two workers in the lab.
func (l *lab) workerParameters(t *testing.T, network map[string]string) map[string]string {
	t.Helper()
	var cluster struct {
		Cluster struct {
			Endpoint                string
			CertificateAuthority    struct{ Data string }
			KubernetesNetworkConfig struct{ ServiceIpv4Cidr string }
		}
	}
	out := l.run(t, time.Minute, "aws", "eks", "describe-cluster", "--name", mill, "--output", "json")
	if err := json.Unmarshal([]byte(out), &cluster); err != nil {
		t.Fatal(err)
	}
	trusted, err := os.ReadFile(l.value("AWS_CA_BUNDLE"))
	if err != nil {
		t.Fatal(err)
	}
	image := strings.TrimSpace(l.run(t, time.Minute, "aws", "ec2", "describe-images", "--owners", "self",
		"--query", "Images[?starts_with(Name, 'ovenbird-lab-')].ImageId | [0]", "--output", "text"))
	endpoint := l.value("AWS_ENDPOINT_URL")
	return map[string]string{
		"ClusterName": mill, "ClusterEndpoint": cluster.Cluster.Endpoint,
		"ClusterCertificateAuthority": cluster.Cluster.CertificateAuthority.Data, "ClusterServiceCidr": cluster.Cluster.KubernetesNetworkConfig.ServiceIpv4Cidr,
		"VpcId": network["VpcId"], "SubnetIds": network["PrivateSubnetIds"], "ImageId": image,
		"ControlPlaneCidr": "10.0.0.10/32", "MinSize": "2", "MaxSize": "3", "MinInstancesInService": "2", "DrainTimeout": fmt.Sprint(drainTimeout.Seconds()),
		"TrustedCertificates": string(trusted),
		"ExtraNodeConfig": fmt.Sprintf(`apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    environment:
      default:
        AWS_ENDPOINT_URL_STS: %[1]s
        AWS_ENDPOINT_URL_AUTO_SCALING: %[1]s
        AWS_ENDPOINT_URL_CLOUDFORMATION: %[1]s
`, endpoint),
	}
}

// tryDeploy runs aws cloudformation deploy, which waits for the stack.
func (l *lab) tryDeploy(stack, template string, parameters map[string]string) (stdout, stderr string, err error) {
	overrides := make([]string, 0, len(parameters))
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		overrides = append(overrides, name+"="+parameters[name])
	}
	file := filepath.Join(l.state, stack+".json")
	content, err := json.Marshal(overrides)
	if err != nil {
		return "", "", err
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", "", err
	}
	defer os.Remove(file)
	return l.command(25*time.Minute, "aws", "cloudformation", "deploy", "--stack-name", stack, "--template-file", "cloudformation/"+template,
		"--capabilities", "CAPABILITY_NAMED_IAM", "--parameter-overrides", "file://"+file)
}

func (l *lab) deploy(t *testing.T, stack, template string, parameters map[string]string) {
	t.Helper()
	if out, stderr, err := l.tryDeploy(stack, template, parameters); err != nil {
		t.Fatalf("deploy %s: %s\n%s", stack, explain(out, stderr, err), l.events(t, stack))
	}
}

// explain is what a failed command said; empty for one that did not fail.
func explain(stdout, stderr string, err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v\n%s%s", err, stdout, stderr)
}

// outputs are a stack's.
func (l *lab) outputs(t *testing.T, stack string) map[string]string {
	t.Helper()
	var list []struct{ OutputKey, OutputValue string }
	out := l.run(t, time.Minute, "aws", "cloudformation", "describe-stacks", "--stack-name", stack, "--query", "Stacks[0].Outputs", "--output", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{}
	for _, o := range list {
		outputs[o.OutputKey] = o.OutputValue
	}
	return outputs
}

// events are what happened to a stack, the latest first.
func (l *lab) events(t *testing.T, stack string) string {
	t.Helper()
	out, stderr, err := l.try(t, time.Minute, "aws", "cloudformation", "describe-stack-events", "--stack-name", stack, "--output", "text",
		"--query", "StackEvents[:60].[LogicalResourceId,ResourceStatus,ResourceStatusReason]")
	return explain(out, stderr, err) + out
}

// admitRole lets the role of a stack's nodes into the cluster as soon as there is one.
func (l *lab) admitRole(ctx context.Context, t *testing.T, stack string, ended <-chan string) {
	t.Helper()
	for {
		out, _, _ := l.try(t, time.Minute, "aws", "cloudformation", "describe-stack-resources", "--stack-name", stack, "--output", "text",
			"--query", "StackResources[?LogicalResourceId=='NodeRole' && ResourceStatus=='CREATE_COMPLETE'].PhysicalResourceId | [0]")
		if role := strings.TrimSpace(out); role != "" && role != "None" {
			l.run(t, time.Minute, "aws", "eks", "create-access-entry", "--cluster-name", mill, "--type", "EC2_LINUX",
				"--principal-arn", "arn:aws:iam::111122223333:role/"+role)
			return
		}
		select {
		case failed := <-ended:
			t.Fatalf("the stack ended before it had a role: %s\n%s", failed, l.events(t, stack))
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

func millClient(t *testing.T, l *lab, kubeconfig string) *kubernetes.Clientset {
	t.Helper()
	// Its exec plugin runs in this process' environment.
	for _, pair := range l.env {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func readyNodes(ctx context.Context, t *testing.T, client *kubernetes.Clientset) []string {
	t.Helper()
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ready []string
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready = append(ready, node.Name)
			}
		}
	}
	return ready
}

// steady is a Deployment of two pods of which one has to stay, and what a watch saw of it.
type steady struct {
	stop   func()
	fewest chan int
}

func startSteady(ctx context.Context, t *testing.T, client *kubernetes.Clientset) steady {
	t.Helper()
	replicas, one := int32(2), intstr.FromInt32(1)
	labels := map[string]string{"app": "steady"}
	_, err := client.PolicyV1().PodDisruptionBudgets("default").Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "steady"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := busybox("steady", "", "exec sleep 3600")
	if _, err := client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "steady"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	watched, err := client.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=steady"})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	s := steady{stop: cancel, fewest: make(chan int, 1)}
	go func() {
		defer watched.Stop()
		fewest := -1 // until both were ready once
		for event := range watched.ResultChan() {
			deployment, ok := event.Object.(*appsv1.Deployment)
			if !ok {
				break
			}
			available := int(deployment.Status.AvailableReplicas)
			switch {
			case fewest < 0 && available == int(replicas):
				fewest = available
				close(ready)
			case fewest >= 0:
				fewest = min(fewest, available)
			}
		}
		s.fewest <- fewest
	}()
	select {
	case <-ready:
	case <-ctx.Done():
		t.Fatalf("two pods are to be available: %v", ctx.Err())
	case <-time.After(5 * time.Minute):
		t.Fatal("two pods are not available after five minutes")
	}
	return s
}

// check ends the watch and wants that one pod was there all the while.
func (s steady) check(t *testing.T) {
	t.Helper()
	s.stop()
	if fewest := <-s.fewest; fewest < 1 {
		t.Errorf("there were %d pods for a while, the budget says 1", fewest)
	}
}

// checkRollback updates the workers to user-data with a mistake.
func checkRollback(ctx context.Context, t *testing.T, l *lab, client *kubernetes.Clientset, parameters map[string]string, before []string) {
	broken := maps.Clone(parameters)
	broken["ExtraNodeConfig"] = strings.Replace(broken["ExtraNodeConfig"], "  instance:", "  colour: red\n  instance:", 1)
	if out, stderr, err := l.tryDeploy(workersStack, "workers.yaml", broken); err == nil {
		t.Fatalf("user-data with a mistake was taken: %s%s", out, stderr)
	}
	if status := l.run(t, time.Minute, "aws", "cloudformation", "describe-stacks", "--stack-name", workersStack,
		"--query", "Stacks[0].StackStatus", "--output", "text"); strings.TrimSpace(status) != "UPDATE_ROLLBACK_COMPLETE" {
		t.Errorf("the stack is %s\n%s", status, l.events(t, workersStack))
	}
	after := readyNodes(ctx, t, client)
	slices.Sort(after)
	slices.Sort(before)
	if !slices.Equal(after, before) {
		t.Errorf("the nodes are %v, and were %v", after, before)
	}
	status := l.run(t, time.Minute, "bin/ovenbird", "workers", "status", mill, workersStack)
	if !strings.Contains(status, "colour") && !strings.Contains(status, "FAILURE") {
		t.Errorf("the status does not say why:\n%s", status)
	}
}

// checkBlockedScaleIn takes the instance of a pod away that its budget lets nobody evict.
func checkBlockedScaleIn(ctx context.Context, t *testing.T, l *lab, client *kubernetes.Clientset) {
	budget := []byte(`{"spec": {"minAvailable": 2}}`) // of two
	if _, err := client.PolicyV1().PodDisruptionBudgets("default").Patch(ctx, "steady", types.MergePatchType, budget, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=steady"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("no pod is left: %v", err)
	}
	pod := pods.Items[0]
	node, err := client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	group := l.outputs(t, workersStack)["AutoScalingGroupName"]
	instance := path.Base(node.Spec.ProviderID)
	l.run(t, time.Minute, "aws", "autoscaling", "update-auto-scaling-group", "--auto-scaling-group-name", group, "--min-size", "1")
	began := time.Now()
	l.run(t, time.Minute, "aws", "autoscaling", "terminate-instance-in-auto-scaling-group", "--instance-id", instance, "--should-decrement-desired-capacity")

	ctx, cancel := context.WithTimeout(ctx, drainTimeout+5*time.Minute)
	defer cancel()
	events, err := client.CoreV1().Events("default").Watch(ctx, metav1.ListOptions{
		FieldSelector: "reason=DrainIncomplete,involvedObject.name=" + node.Name,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	event, ok := (<-events.ResultChan()).Object.(*corev1.Event)
	if !ok {
		t.Fatalf("no event names the pod that is left: %v", ctx.Err())
	}
	if took := event.FirstTimestamp.Sub(began); took < drainTimeout-5*time.Second {
		t.Errorf("the drain ended after %s, its deadline is after %s", took, drainTimeout)
	}
	if !strings.Contains(event.Message, pod.Namespace+"/"+pod.Name) || !strings.Contains(event.Message, "budget steady") {
		t.Errorf("the event says %q, and names not pod %s and its budget", event.Message, pod.Name)
	}
	l.run(t, 5*time.Minute, "aws", "ec2", "wait", "instance-terminated", "--instance-ids", instance)
}
