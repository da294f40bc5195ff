package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// ownParts are what the second node's user-data has besides the cluster: a NodeConfig, and
// a script that must not find a kubelet yet.
var ownParts = map[string]string{
	"more.yaml": `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    maxPodsExpression: max_pods / 2 + 2
    flags: ["--node-labels=team=blue"]
    config: {containerLogMaxFiles: 7}
  containerd:
    config: |
      [plugins."io.containerd.grpc.v1.cri"]
      max_container_log_line_size = 12345
  instance:
    network: {domains: [corp.example]}
`,
	"set-up.sh": `#!/bin/sh
echo "from user-data"
systemctl is-active kubelet.service >>/var/lib/set-up
exit 3
`,
	"storage.yaml": storagePart,
}

// writeParts writes ownParts and returns them as scripts/add-node takes them.
func writeParts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	for name, content := range ownParts {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return strings.Join(files, " ")
}

// onNode starts a privileged pod on a node, and returns what runs a command in the mount
// namespace of the node's host.
func (l *lab) onNode(t *testing.T, client kubernetes.Interface, podName, nodeName string) func(command ...string) string {
	t.Helper()
	pod := busybox(podName, nodeName, "sleep 3600")
	pod.Spec.HostNetwork, pod.Spec.HostPID = true, true
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	startPod(t, client, pod)
	return func(command ...string) string {
		t.Helper()
		out, err := l.inPod(t, podName, append([]string{"nsenter", "-t", "1", "-m", "--"}, command...)...)
		if err != nil {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
		return out
	}
}

// checkUserData finds in the second node what its user-data asked for, and what its agent
// says about itself there.
func checkUserData(ctx context.Context, t *testing.T, l *lab, client kubernetes.Interface, name string) {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// An i3en.2xlarge has four interfaces of fifteen addresses: 58 pods.
	if pods := node.Status.Capacity.Pods().Value(); pods != 31 || node.Labels["team"] != "blue" || node.Labels["tier"] != "gold" {
		t.Errorf("the node takes %d pods and has the labels %v, want 31, team=blue and of its tag tier=gold", pods, node.Labels)
	}
	if !slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == "soft" }) {
		t.Errorf("the node has the taints %v, want that of its tag", node.Spec.Taints)
	}
	var totals struct{ KernelToReadySeconds float64 }
	if err := json.Unmarshal([]byte(node.Annotations["ovenbird.dev/boot"]), &totals); err != nil || totals.KernelToReadySeconds <= 0 {
		t.Errorf("the node says of its start %q (%v)", node.Annotations["ovenbird.dev/boot"], err)
	}
	for kind, want := range map[corev1.NodeConditionType]corev1.ConditionStatus{"BootstrapScriptsFailed": corev1.ConditionTrue, "NodeConfigWarnings": corev1.ConditionFalse} {
		if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind && c.Status == want }) {
			t.Errorf("the node has the conditions %+v, want %s to be %s", node.Status.Conditions, kind, want)
		}
	}
	configz, err := client.CoreV1().RESTClient().Get().Resource("nodes").Name(name).SubResource("proxy").Suffix("configz").DoRaw(ctx)
	if err != nil || !strings.Contains(string(configz), `"containerLogMaxFiles":7`) {
		t.Errorf("kubelet runs with %s, %v", configz, err)
	}
	onNode := l.onNode(t, client, "agent", name)
	if out := onNode("/usr/bin/cat", "/var/lib/set-up"); strings.TrimSpace(out) != "inactive" {
		t.Errorf("when the script ran, kubelet was %q", out)
	}
	if out := onNode("/usr/bin/cat", "/run/systemd/resolve/resolv.conf"); !strings.Contains(out, "corp.example") {
		t.Errorf("the domain is not searched:\n%s", out)
	}
	var status struct {
		Scripts []struct{ ExitStatus *int }
		Traffic struct{ AWS struct{ Calls int } }
	}
	if err := json.Unmarshal([]byte(onNode("/usr/bin/ovenbird-agent", "status", "--output", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Scripts) != 1 || status.Scripts[0].ExitStatus == nil || *status.Scripts[0].ExitStatus != 3 {
		t.Errorf("the status has the scripts %+v, want one with exit status 3", status.Scripts)
	}
	if status.Traffic.AWS.Calls != 0 {
		t.Errorf("%d calls to AWS with complete user-data", status.Traffic.AWS.Calls)
	}
	var report struct {
		Healthy  bool
		Findings []struct{ Check, Verdict, Found string }
	}
	if err := json.Unmarshal([]byte(onNode("/usr/bin/ovenbird-agent", "doctor", "--output", "json")), &report); err != nil {
		t.Fatal(err)
	}
	if !report.Healthy || len(report.Findings) != 12 {
		t.Errorf("the doctor says %+v", report)
	}
	if out := onNode("/usr/bin/ovenbird-agent", "timeline", "--svg"); !strings.HasPrefix(out, "<svg") && !strings.HasPrefix(out, "<?xml") || !strings.Contains(out, "kernel") {
		t.Errorf("the drawing begins with %.200q", out)
	}
}

// checkReboot restarts the machine of the node, which must come again as it was.
func checkReboot(ctx context.Context, t *testing.T, l *lab, client kubernetes.Interface, name string) {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := node.Status.NodeInfo.BootID
	// The connection may end before the answer comes.
	out, err := l.inPod(t, "agent", "nsenter", "-t", "1", "-m", "--", "/usr/bin/systemctl", "reboot")
	t.Logf("systemctl reboot: %q, %v", out, err)
	awaitNode(ctx, t, client, name, func(node *corev1.Node) bool {
		return node.Status.NodeInfo.BootID != before && ready(node)
	})
	checkLocalStorage(ctx, t, l, client, "storage-again", name)
	onNode := l.onNode(t, client, "agent-again", name)
	if out := onNode("/usr/bin/cat", "/var/lib/set-up"); strings.TrimSpace(out) != "inactive" {
		t.Errorf("the script has left %q, want one line of one run", out)
	}
}

func awaitNode(ctx context.Context, t *testing.T, client kubernetes.Interface, name string, done func(*corev1.Node) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	selector := fields.OneTermEqualSelector("metadata.name", name).String()
	nodes := client.CoreV1().Nodes()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return nodes.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return nodes.Watch(ctx, options)
		},
	}
	_, err := toolswatch.UntilWithSync(ctx, source, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		node, ok := event.Object.(*corev1.Node)
		return ok && done(node), nil
	})
	if err != nil {
		last, _ := nodes.Get(context.Background(), name, metav1.GetOptions{})
		t.Fatalf("Node %s is not as awaited: %v\n%+v", name, err, last.Status)
	}
}
