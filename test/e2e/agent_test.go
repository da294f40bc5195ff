package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ownParts are what the second node's user-data has besides the cluster: a NodeConfig, and
// a script that must not find a kubelet yet.
var ownParts = map[string]string{
	"more.yaml": `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    maxPodsExpression: max_pods * 2 - 3
    flags: ["--node-labels=team=blue"]
  instance:
    network: {domains: [corp.example]}
`,
	"set-up.sh": `#!/bin/sh
echo "from user-data"
systemctl is-active kubelet.service >/var/lib/set-up
exit 3
`,
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
	// A t3.medium has three interfaces of six addresses: 17 pods.
	if pods := node.Status.Capacity.Pods().Value(); pods != 31 || node.Labels["team"] != "blue" {
		t.Errorf("the node takes %d pods and has the labels %v, want 31 and team=blue", pods, node.Labels)
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
