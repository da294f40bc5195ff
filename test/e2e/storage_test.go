package e2e

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// storagePart is the NodeConfig of a node with two instance-store drives.
const storagePart = `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    localStorage: {strategy: RAID0}
  kubelet:
    config:
      memorySwap: {swapBehavior: LimitedSwap}
`

// checkLocalStorage finds the array and the swap file that storagePart asks for on a node
// with two instance-store drives. That its pod runs says that the baked-in images are still
// there.
func checkLocalStorage(ctx context.Context, t *testing.T, l *lab, client kubernetes.Interface, podName, nodeName string) {
	onNode := l.onNode(t, client, podName, nodeName)
	mdstat := onNode("/usr/bin/cat", "/proc/mdstat")
	// Such as: md127 : active raid0 nvme2n1[1] nvme1n1[0]
	array := regexp.MustCompile(`(?m)^(md\d+) : active raid0 nvme\d+n1\[\d\] nvme\d+n1\[\d\]$`).FindStringSubmatch(mdstat)
	if array == nil {
		t.Fatalf("there is no raid0 of two drives:\n%s", mdstat)
	}
	mounts := map[string]string{} // by mount point, the device of the last one there
	for line := range strings.Lines(onNode("/usr/bin/cat", "/proc/mounts")) {
		if fields := strings.Fields(line); len(fields) > 1 {
			mounts[fields[1]] = fields[0]
		}
	}
	for _, target := range []string{"/mnt/k8s-disks/0", "/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods"} {
		if want := "/dev/" + array[1]; mounts[target] != want {
			t.Errorf("%s lies on %q, want %s", target, mounts[target], want)
		}
	}
	if swaps := onNode("/usr/bin/cat", "/proc/swaps"); !strings.Contains(swaps, "/mnt/k8s-disks/0/swap ") {
		t.Errorf("the swap file is not used:\n%s", swaps)
	}
	var status struct {
		Warnings     []string
		LocalStorage struct {
			Strategy, State, Error string
			Devices                []string
		}
	}
	if err := json.Unmarshal([]byte(onNode("/usr/bin/ovenbird-agent", "status", "--output", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if got := status.LocalStorage; got.Strategy != "RAID0" || got.State != "ready" || got.Error != "" || len(got.Devices) != 2 {
		t.Errorf("the status has %+v, and the warnings %q", got, status.Warnings)
	}
	node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "LocalStorageDegraded" && condition.Status == corev1.ConditionFalse {
			return
		}
	}
	t.Errorf("the Node has the conditions %+v, want LocalStorageDegraded False", node.Status.Conditions)
}
