package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

//go:embed kill-agent.sh
var killAgent string

// checkKills kills the agent of the node in each phase, and wants a node that has joined all
// the same.
func checkKills(ctx context.Context, t *testing.T, l *lab, client kubernetes.Interface, name string) {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	phases := []string{
		"metadata", "configuration", "storage", "scripts", "files", "containerd", "identity", "api-server", "warm-pool", "kubelet", "network", "ready",
		"watch", "report",
	}
	onNode := l.onNode(t, client, "killer", name)
	onNode(append([]string{
		"/usr/bin/systemd-run", "--no-block", "--expand-environment=no", "--unit=kill-agent", "/bin/bash", "-c", killAgent, "kill-agent",
	}, phases...)...)
	l.awaitConsole(t, path.Base(node.Spec.ProviderID), "no phase is left to kill the agent in", 20*time.Minute)
	awaitNode(ctx, t, client, name, ready)
	onNode = l.onNode(t, client, "killed", name)
	killed := strings.Fields(onNode("/usr/bin/cat", "/var/lib/killed"))
	for _, phase := range phases {
		if !slices.Contains(killed, phase) {
			t.Errorf("the agent was killed in %v, not in %s", killed, phase)
		}
	}
	if out := onNode("/usr/bin/cat", "/var/lib/set-up"); strings.TrimSpace(out) != "inactive" {
		t.Errorf("the script has left %q, want one line of one run", out)
	}
}

// away is how long the control plane cannot be reached.
const away = 5 * time.Minute

// checkControlPlaneAway restarts the machine of the node while nothing that it sends reaches
// the API server.
func checkControlPlaneAway(ctx context.Context, t *testing.T, l *lab, client kubernetes.Interface, name string) {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := node.Status.NodeInfo.BootID
	onNode := l.onNode(t, client, "restarter", name)
	onNode("/usr/bin/systemd-run", "--no-block", "--on-active=5", "/usr/bin/systemctl", "reboot")
	server, err := url.Parse(l.restConfig(t).Host)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(server.Host)
	if err != nil {
		t.Fatal(err)
	}
	inLab := func(command ...string) {
		t.Helper()
		l.run(t, time.Minute, "ip", append([]string{"netns", "exec", l.name}, command...)...)
	}
	inLab("nft", "add table inet away; add chain inet away in { type filter hook input priority 0; };"+
		"add rule inet away in ip saddr "+internalIP(*node)+" ip daddr "+host+" tcp dport "+port+" drop")
	select {
	case <-time.After(away): // the fault itself
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	if node, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); err != nil || ready(node) {
		t.Errorf("the node is Ready (%v) with no way to the API server", err)
	}
	inLab("nft", "delete table inet away")
	back := time.Now()
	awaitNode(ctx, t, client, name, func(node *corev1.Node) bool { return node.Status.NodeInfo.BootID != before && ready(node) })
	t.Logf("Ready %.0fs after the control plane is back", time.Since(back).Seconds())
	var status struct {
		Phases []struct {
			Name, LastError string
			Attempts        int
		}
	}
	onNode = l.onNode(t, client, "restarted", name)
	if err := json.Unmarshal([]byte(onNode("/usr/bin/ovenbird-agent", "status", "--output", "json")), &status); err != nil {
		t.Fatal(err)
	}
	attempts := 0
	for _, phase := range status.Phases {
		if attempts += phase.Attempts - 1; phase.Attempts > 1 {
			t.Logf("%s took %d attempts: %s", phase.Name, phase.Attempts, phase.LastError)
		}
	}
	if attempts == 0 {
		t.Error("every phase succeeded at once: the control plane was not away")
	}
}

// ready tells whether the Node is Ready.
func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
