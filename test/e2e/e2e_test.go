// Package e2e proves the parts together: what `make up` does, on a lab of its own, with
// assertions. It needs root, the baked image and the components.
package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestOneMachine(t *testing.T) {
	l := startLab(t)
	client := l.client(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()

	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("want one node, got %d (%v)", len(nodes.Items), err)
	}
	first := nodes.Items[0]

	pinned := pinnedVersions(t, l)
	t.Run("the node runs the pinned versions and says which instance it is", func(t *testing.T) { checkNode(t, first, pinned) })
	t.Run("every certificate went to the name that asked for it", func(t *testing.T) {
		requests, err := client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkRequests(t, requests.Items, first)
	})
	t.Run("the pod of make up has an address of its node", func(t *testing.T) {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "hello", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkPodAddress(t, pod, first)
	})
	t.Run("names and services answer", func(t *testing.T) { checkServices(ctx, t, l, first.Name) })
	t.Run("an image of one's own runs", func(t *testing.T) { checkRegistry(t, l, client, first.Name, pinned["kubernetes"]) })
	t.Run("logs and exec reach the pod", func(t *testing.T) {
		if out := logs(t, client, "web"); !strings.Contains(out, "serving") {
			t.Errorf("logs: got %q", out)
		}
		out, err := l.inPod(t, "web", "cat", "/www/index.html")
		if err != nil || strings.TrimSpace(out) != "baked" {
			t.Errorf("exec: got %q, %v", out, err)
		}
	})
	t.Run("the AWS CLI lists and describes the cluster", func(t *testing.T) { checkAWSCLI(t, l, pinned["kubernetes"]) })
	t.Run("the AWS CLI and kubectl take a cluster through its life", func(t *testing.T) { checkAWSClients(t, l) })
	t.Run("a mistake is a line that names it", func(t *testing.T) { checkMistakes(t, l) })
	t.Run("a second make up changes nothing", func(t *testing.T) {
		started := time.Now()
		l.up(t)
		if took := time.Since(started); took > time.Minute {
			t.Errorf("took %s", took)
		}
		again, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil || len(again.Items) != 1 || again.Items[0].UID != first.UID {
			t.Errorf("the nodes changed: %v, %v", again, err)
		}
	})

	second := startSecondNode(ctx, t, l, first.Name)
	t.Run("a pod on the second node resolves names", func(t *testing.T) {
		startPod(t, client, busybox("second", second, "sleep 3600"))
		// The node's own CoreDNS starts at the same time as the pod.
		out, err := l.inPod(t, "second", "sh", "-c",
			"for i in $(seq 25); do nslookup kubernetes.default.svc.cluster.local && exit; sleep 1; done; exit 1")
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("a pod does not reach instance metadata", func(t *testing.T) {
		if out, err := l.inPod(t, "second", "wget", "-T", "3", "-O", "-", "http://169.254.169.254/latest/"); err == nil || strings.Contains(out, "HTTP/") {
			t.Errorf("it got %q, %v", out, err)
		}
	})
	t.Run("the second node is as its user-data says, and well", func(t *testing.T) { checkUserData(ctx, t, l, client, second) })
	t.Run("the second node lies on its drives", func(t *testing.T) { checkLocalStorage(ctx, t, l, client, "storage", second) })
	t.Run("the root is read-only and /var has the whole volume", func(t *testing.T) { checkRoot(t, l, client, second) })
	t.Run("a pod in a user namespace owns its files", func(t *testing.T) { checkUserNamespace(t, l, client, second) })
	t.Run("a node that asks for another's name is refused", func(t *testing.T) { checkForeignNames(ctx, t, l, first, second) })
	if full() {
		t.Run("a reboot finds the drives again and runs no script twice", func(t *testing.T) { checkReboot(ctx, t, l, client, second) })
		t.Run("a control plane that is away for five minutes gets its node all the same", func(t *testing.T) { checkControlPlaneAway(ctx, t, l, client, second) })
		t.Run("an agent that is killed in every phase joins", func(t *testing.T) { checkKills(ctx, t, l, client, second) })
		t.Run("pods leave a Spot node before it goes", func(t *testing.T) { checkSpotInterruption(t, l, second) })
		t.Run("an instance in a warm pool is no node until it is wanted", func(t *testing.T) { checkWarmPool(ctx, t, l) })
	}
	t.Run("a flipped bit in the root stops the boot", func(t *testing.T) { checkTampering(t, l) })
	t.Run("a published AMI boots in Secure Boot, and not with another's keys", func(t *testing.T) { checkAMI(ctx, t, l) })
	if full() {
		t.Run("workers come, change and go as stacks", func(t *testing.T) { checkWorkers(ctx, t, l) })
	}
	t.Run("a Debian machine becomes a node over SSH", func(t *testing.T) { checkSSH(t, l, pinned) })
	t.Run("a deleted cluster leaves no process and no file", func(t *testing.T) { checkDelete(t, l) })
	t.Run("down leaves nothing", func(t *testing.T) {
		l.down(t)
		checkNothingLeft(t, l)
	})
}

// full tells whether make e2e-full runs the tests, which takes more boots and more time.
func full() bool { return os.Getenv("OVENBIRD_FULL") != "" }

// pinnedVersions are those of components/; of several Kubernetes minors, the newest's.
func pinnedVersions(t *testing.T, l *lab) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for pair := range strings.SplitSeq(strings.TrimSpace(l.run(t, time.Minute, "scripts/components", "--versions")), ",") {
		// Folders are listed in the order of their minors.
		name, version, _ := strings.Cut(pair, "=")
		versions[name] = version
	}
	return versions
}

func checkNode(t *testing.T, node corev1.Node, pinned map[string]string) {
	info := node.Status.NodeInfo
	if want := "v" + pinned["kubernetes"]; info.KubeletVersion != want {
		t.Errorf("kubelet %s, want %s", info.KubeletVersion, want)
	}
	if want := "containerd://" + pinned["containerd"]; info.ContainerRuntimeVersion != want {
		t.Errorf("container runtime %s, want %s", info.ContainerRuntimeVersion, want)
	}
	if !strings.HasPrefix(node.Spec.ProviderID, "aws:///us-west-2") || !strings.Contains(node.Spec.ProviderID, "/i-") {
		t.Errorf("provider id %q, want aws:///<zone>/<instance id>", node.Spec.ProviderID)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
			t.Errorf("not Ready: %s", condition.Message)
		}
	}
	address := internalIP(node)
	if want := "ip-" + strings.ReplaceAll(address, ".", "-") + ".us-west-2.compute.internal"; node.Name != want {
		t.Errorf("node name %s, want %s", node.Name, want)
	}
}

func internalIP(node corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}

// checkRequests holds every issued certificate to the node's name and addresses, and
// wants both a client and a serving certificate.
func checkRequests(t *testing.T, requests []certificatesv1.CertificateSigningRequest, node corev1.Node) {
	signers := map[string]int{}
	for _, request := range requests {
		if len(request.Status.Certificate) == 0 {
			t.Errorf("%s (%s) has no certificate: %+v", request.Name, request.Spec.SignerName, request.Status.Conditions)
			continue
		}
		signers[request.Spec.SignerName]++
		block, _ := pem.Decode(request.Status.Certificate)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		name := "system:node:" + node.Name
		if request.Spec.Username != name || certificate.Subject.CommonName != name {
			t.Errorf("%s: asked by %s, issued to %s, want %s", request.Name, request.Spec.Username, certificate.Subject.CommonName, name)
		}
		for _, ip := range certificate.IPAddresses {
			if ip.String() != internalIP(node) {
				t.Errorf("%s: certificate for address %s, the node has %s", request.Name, ip, internalIP(node))
			}
		}
	}
	for _, signer := range []string{certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName} {
		if signers[signer] == 0 {
			t.Errorf("no certificate by %s", signer)
		}
	}
}

func checkPodAddress(t *testing.T, pod *corev1.Pod, node corev1.Node) {
	cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		t.Fatalf("node %s has pod CIDR %q: %v", node.Name, node.Spec.PodCIDR, err)
	}
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || !cidr.Contains(address) {
		t.Errorf("pod address %q is not in %s (%v)", pod.Status.PodIP, cidr, err)
	}
}

// checkServices starts a web server behind a service and asks it by name from another
// pod: DNS through the cluster's resolver, the service through kube-proxy.
func checkServices(ctx context.Context, t *testing.T, l *lab, node string) {
	client := l.client(t)
	startPod(t, client, busybox("web", node, "mkdir /www && echo baked >/www/index.html && echo serving && exec httpd -f -p 8080 -h /www"))
	startPod(t, client, busybox("asker", node, "sleep 3600"))
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if _, err := client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	out, err := l.inPod(t, "asker", "sh", "-c",
		"for i in $(seq 10); do wget -q -T 3 -O - http://web.default.svc.cluster.local && exit 0; sleep 1; done; nslookup web.default.svc.cluster.local; exit 1")
	if err != nil || strings.TrimSpace(out) != "baked" {
		t.Errorf("wget through the service: got %q, %v", out, err)
	}
}

func checkAWSCLI(t *testing.T, l *lab, kubernetes string) {
	requireCLI(t)
	if out := l.run(t, time.Minute, "aws", "eks", "list-clusters", "--query", "clusters", "--output", "text"); strings.TrimSpace(out) != clusterName {
		t.Errorf("list-clusters: got %q", out)
	}
	out := l.run(t, time.Minute, "aws", "eks", "describe-cluster", "--name", clusterName, "--query", "cluster.[name,status,version]", "--output", "text")
	if got := strings.Fields(out); !slices.Equal(got, []string{clusterName, "ACTIVE", kubernetes[:strings.LastIndex(kubernetes, ".")]}) {
		t.Errorf("describe-cluster: got %q", out)
	}
}

// startSecondNode starts another instance and waits for its Node: a Spot instance with two
// instance-store drives, ownParts in its user-data, and tags that it shows in its metadata.
func startSecondNode(ctx context.Context, t *testing.T, l *lab, first string) string {
	t.Helper()
	l.run(t, 10*time.Minute, "env", "OVENBIRD_PARTS="+writeParts(t), "OVENBIRD_NODE_TAG=ovenbird.dev-cluster="+clusterName,
		"scripts/add-node", "--volume-size", strconv.Itoa(secondVolume), "--instance-type", "i3en.2xlarge", "--spot", "terminate",
		"--metadata-tags", "--tag", "ovenbird.dev-label:tier=gold", "--tag", "ovenbird.dev-taint:soft=yes:PreferNoSchedule")
	nodes, err := l.client(t).CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		if node.Name != first {
			return node.Name
		}
	}
	t.Fatalf("no second node among %d", len(nodes.Items))
	return ""
}

func checkDelete(t *testing.T, l *lab) {
	l.run(t, 3*time.Minute, "bin/ovenbird", "cluster", "delete", clusterName, "--wait")
	clusters := filepath.Join(l.state, "control-plane", "clusters")
	if left, err := os.ReadDir(clusters); err == nil && len(left) > 0 {
		t.Errorf("files left in %s: %v", clusters, left)
	}
	if out, _ := exec.Command("pgrep", "-af", clusters).Output(); len(out) > 0 {
		t.Errorf("processes left:\n%s", out)
	}
}

func checkNothingLeft(t *testing.T, l *lab) {
	t.Helper()
	for what, command := range map[string][]string{
		"a network namespace": {"sh", "-c", "ip netns list | grep -w " + l.name},
		"a mount":             {"grep", "-e", l.state, "-e", "/run/netns/" + l.name, "/proc/mounts"},
		"a process":           {"pgrep", "-af", l.state},
		"state":               {"find", l.state, "-mindepth", "1"},
	} {
		if out, _ := exec.Command(command[0], command[1:]...).Output(); len(out) > 0 {
			t.Errorf("left behind, %s:\n%s", what, out)
		}
	}
}
