package boot_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

func TestAnInstanceBecomesAReadyNode(t *testing.T) {
	w := newWorld(t)
	status := w.mustJoin()

	if want := []string{"reload", "restart containerd.service", "restart kubelet.service"}; !slices.Equal(w.units.calls, want) {
		t.Errorf("systemd was asked for %q, want %q", w.units.calls, want)
	}
	if w.tokens != 2 { // the request and the watch for its answer
		t.Errorf("%d calls by token", w.tokens)
	}
	requests := w.server.Requests()
	if len(requests) != 1 || requests[0].Spec.Username != "system:node:"+nodeName {
		t.Errorf("requests were %+v", requests)
	}
	for _, phase := range status.Phases {
		if phase.Attempts != 1 || phase.LastError != "" || phase.Started == nil || *phase.Finished < *phase.Started || *phase.Started < 5 {
			t.Errorf("got %+v", phase)
		}
	}
	if status.Node != nodeName || status.Cluster != "demo" || status.Instance != "i-0123456789abcdef0" || *status.Ready < *phase(t, status, "ready").Finished {
		t.Errorf("got %+v", status)
	}
	for path, want := range map[string]string{
		"/etc/kubernetes/kubelet/config.json":             `"providerID": "aws:///us-west-2a/i-0123456789abcdef0"`,
		"/etc/eks/kubelet/environment":                    "--hostname-override=" + nodeName,
		"/etc/containerd/config.toml":                     "localhost/ovenbird/pause:1.37.2",
		"/var/lib/kubelet/kubeconfig":                     w.server.URL,
		"/etc/kubernetes/pki/ca.crt":                      "BEGIN CERTIFICATE",
		"/var/lib/kubelet/pki/kubelet-client-current.pem": "EC PRIVATE KEY",
		"/etc/systemd/system.conf.d/environment.conf":     "AWS_ENDPOINT_URL_STS=https://aws.lab.internal/",
		conflist: `"subnet": "10.244.1.0/24"`,
	} {
		if got := w.read(path); !strings.Contains(got, want) {
			t.Errorf("%s has no %s:\n%s", path, want, got)
		}
	}
	console := w.console.String()
	if !strings.Contains(console, "] "+nodeName+" is Ready in cluster demo, ") {
		t.Errorf("the console does not tell the end:\n%s", console)
	}
	for _, phase := range status.Phases {
		took, want := *phase.Finished-*phase.Started, 0
		if took >= 0.05 {
			want = 1
		}
		if strings.Count(console, "] "+phase.Name+" done in ") != want {
			t.Errorf("%s took %.3f s and the console tells:\n%s", phase.Name, took, console)
		}
	}
}

// noAWS fails the test for any call to AWS: the transport of every client that was not
// given another one.
type noAWS struct{ t *testing.T }

func (n noAWS) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("the agent called %s", r.URL.Host)
	return nil, errors.New("there is no AWS here")
}

func TestACompleteNodeConfigNeedsNoAWSCallAndEveryOtherIsCounted(t *testing.T) {
	before := http.DefaultTransport
	http.DefaultTransport = noAWS{t}
	t.Cleanup(func() { http.DefaultTransport = before })
	w := newWorld(t)
	w.server.Fail(503) // the call that fails is one too
	got := w.mustJoin().Traffic

	if got.AWS != (traffic.Count{}) {
		t.Errorf("calls to AWS: %+v", got.AWS)
	}
	if calls := int64(len(w.metadata.Calls())); got.Metadata.Calls != calls || got.Metadata.Received < 300 {
		t.Errorf("%+v, and the metadata service saw %d calls", got.Metadata, calls)
	}
	if calls := int64(len(w.server.Calls())); got.APIServer.Calls != calls || got.APIServer.Sent < 300 || got.APIServer.Received < 1000 {
		t.Errorf("%+v, and the API server saw %d calls", got.APIServer, calls)
	}
}

func TestOnlyAnIPv6ClusterAsksForAnIPv6Address(t *testing.T) {
	asked := func(w *world) int {
		return strings.Count(strings.Join(w.metadata.Calls(), "\n"), "/meta-data/ipv6")
	}
	w := newWorld(t)
	w.mustJoin()
	if got := asked(w); got != 0 {
		t.Errorf("it was asked for %d times in a cluster of IPv4", got)
	}
	w = newWorld(t)
	w.metadata.Set("user-data", strings.Replace(w.userData(""), "10.100.0.0/16", "fd12:3456:789a::/108", 1))
	w.at("configuration (try 1 failed: spec.cluster.cidr is fd12:3456:789a::/108, but the instance has no IPv6 address", func() {
		w.metadata.Set("meta-data/ipv6", "2600:1f14::7")
	})
	w.mustJoin()
	if got := w.read("/etc/eks/kubelet/environment"); !strings.Contains(got, "--node-ip=2600:1f14::7") {
		t.Errorf("kubelet gets %s", got)
	}
}

func TestContainerdAndIdentityGoSideBySide(t *testing.T) {
	w := newWorld(t)
	w.server.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "wait" }
	w.units.containerd = func() { // it starts no sooner than the certificate is asked for
		for len(w.server.Requests()) == 0 {
			runtime.Gosched()
		}
		if err := w.server.Sign(w.server.Requests()[0].Name); err != nil {
			t.Error(err)
		}
	}
	w.mustJoin()
}

func TestEveryFailureIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		fault    func(w *world)
		phase    string
		attempts int
		says     string
	}{
		"instance metadata drops connections at first": {
			func(w *world) { w.metadata.Drop(5) }, "metadata", 6, "EOF"},
		"instance metadata knows no identity at first": {
			func(w *world) {
				document := "dynamic/instance-identity/document"
				w.metadata.Set(document, "{}")
				w.at("metadata (try 2 failed", func() {
					w.metadata.Set(document, `{"instanceId":"i-0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`)
				})
			}, "metadata", 3, "privateIp"},
		"user-data is wrong and then mended": {
			func(w *world) {
				w.metadata.Set("user-data", w.userData("  kubelets: {}"))
				w.at("configuration (try 2 failed", func() { w.metadata.Set("user-data", w.userData("")) })
			}, "configuration", 3, "user-data: line 12: spec.kubelets: unknown field"},
		"user-data comes late": {
			func(w *world) {
				w.metadata.Set("user-data", "")
				w.at("configuration (try 1 failed", func() { w.metadata.Set("user-data", w.userData("")) })
			}, "configuration", 2, "user-data: empty: a NodeConfig is needed"},
		"the image does not describe itself": {
			func(w *world) {
				release := w.read("/etc/ovenbird/release.json")
				os.Remove(w.root.Join("/etc/ovenbird/release.json"))
				w.at("configuration (try 1 failed", func() {
					os.WriteFile(w.root.Join("/etc/ovenbird/release.json"), []byte(release), 0o600)
				})
			}, "configuration", 2, "read the image's description"},
		"containerd does not start at first": {
			func(w *world) { w.units.fail["containerd.service"] = 3 }, "containerd", 4, "start containerd.service: failed"},
		"kubelet does not start at first": {
			func(w *world) { w.units.fail["kubelet.service"] = 3 }, "kubelet", 4, "start kubelet.service: failed"},
		"the role's credentials come late": {
			func(w *world) {
				path := "meta-data/iam/security-credentials/ovenbird-node"
				w.metadata.Set(path, `{"Code":"AssumeRoleUnauthorizedAccess"}`)
				w.at("identity (try 1 failed", func() {
					w.metadata.Set(path, `{"Code":"Success","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`)
				})
			}, "identity", 2, "AWS credentials"},
		"the API server is overloaded when asked for a certificate": {
			func(w *world) { w.server.Fail(503, 503, 500) }, "identity", 4, "told to fail"},
		"the cluster does not know the role yet": {
			func(w *world) {
				known := w.server.Token
				w.server.Token = func(string) string { return "" }
				w.at("identity (try 2 failed", func() { w.server.Token = known })
			}, "identity", 3, "has the cluster an access entry of type EC2_LINUX for this instance's role, and the instance the tag kubernetes.io/cluster/demo?"},
		"the certificate request is denied and then not": {
			func(w *world) {
				w.server.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "the instance is not running" }
				w.at("identity (try 1 failed", func() { w.server.Judge = nil })
			}, "identity", 2, "was refused: Denied: the instance is not running"},
		"the API server is away when the certificate is there": {
			func(w *world) {
				w.at("identity (certificate request", func() { w.server.Fail(0, 0, 503, 503) }) // request, watch, then /readyz twice
			}, "api-server", 3, "told to fail"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.fault(w)
			status := w.mustJoin()
			got := phase(t, status, test.phase)
			if got.Attempts != test.attempts || !strings.Contains(got.LastError, test.says) {
				t.Errorf("got %d attempts, the last error %q; want %d, %q", got.Attempts, got.LastError, test.attempts, test.says)
			}
			if !strings.Contains(w.journal.String(), `"phase failed, will be tried again","phase":"`+test.phase+`","attempt":1,`) {
				t.Errorf("the journal does not tell of it:\n%s", w.journal.String())
			}
		})
	}
}

// at calls act once, when the status first says text.
func (w *world) at(text string, act func()) {
	done := false
	w.onStatus = func(headline string) {
		if !done && strings.Contains(headline, text) {
			done = true
			act()
		}
	}
}

func TestTheConsoleTellsOfWhatKeepsFailing(t *testing.T) {
	w := newWorld(t)
	w.units.fail["kubelet.service"] = 20
	w.mustJoin()
	var told []string
	for line := range strings.Lines(w.console.String()) {
		if _, after, ok := strings.Cut(line, "] kubelet failed "); ok {
			failure, _, _ := strings.Cut(after, ";")
			told = append(told, failure)
		}
	}
	want := []string{"(try 4): start kubelet.service: failed", "(try 8): start kubelet.service: failed", "(try 16): start kubelet.service: failed"}
	if !slices.Equal(told, want) {
		t.Errorf("the console tells %q, want %q", told, want)
	}
	if strings.Count(w.console.String(), "] kubelet done in ") != 1 {
		t.Errorf("the console does not tell once that kubelet runs:\n%s", w.console.String())
	}
}

// stuckConsole takes nothing until freed is done.
type stuckConsole struct {
	freed context.Context
	lines []string
}

func (c *stuckConsole) Write(line []byte) (int, error) {
	<-c.freed.Done()
	c.lines = append(c.lines, string(line))
	return len(line), nil
}

func TestAConsoleThatIsStuckDoesNotKeepANodeFromJoining(t *testing.T) {
	w := newWorld(t)
	w.units.fail["containerd.service"] = 20
	freed, free := context.WithTimeout(t.Context(), time.Minute)
	defer free()
	console := &stuckConsole{freed: freed}
	w.otherConsole = console
	w.onStatus = func(headline string) {
		if strings.HasPrefix(headline, "READY=1") {
			free()
		}
	}
	w.mustJoin()
	if errors.Is(freed.Err(), context.DeadlineExceeded) {
		t.Error("the node waited for the console")
	}
	if !strings.Contains(strings.Join(console.lines, ""), "] containerd failed (try 4): ") {
		t.Errorf("the console was told %q", console.lines)
	}
}

func TestARefusedRequestIsFollowedByAnother(t *testing.T) {
	w := newWorld(t)
	w.server.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "no" }
	w.at("identity (try 1 failed", func() { w.server.Judge = nil })
	w.mustJoin()
	requests := w.server.Requests()
	if len(requests) != 2 || requests[0].Name == requests[1].Name || string(requests[0].Spec.Request) == string(requests[1].Spec.Request) {
		t.Errorf("got %d requests, want two different ones", len(requests))
	}
}

func TestAnotherRunUsesWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.mustJoin()
	pair := w.read("/var/lib/kubelet/pki/kubelet-client-current.pem")
	w.units.calls, w.tokens = nil, 0

	w.mustJoin()
	if want := []string{"start containerd.service", "start kubelet.service"}; !slices.Equal(w.units.calls, want) {
		t.Errorf("systemd was asked for %q, want %q", w.units.calls, want)
	}
	if w.tokens != 0 || len(w.server.Requests()) != 1 || w.read("/var/lib/kubelet/pki/kubelet-client-current.pem") != pair {
		t.Errorf("%d tokens were used; requests are %+v", w.tokens, w.server.Requests())
	}
}

func TestWhatChangedIsRestartedAndNothingElse(t *testing.T) {
	w := newWorld(t)
	w.mustJoin()
	w.units.calls = nil
	w.metadata.Set("user-data", w.userData("  kubelet: {config: {maxPods: 30}}"))
	w.mustJoin()
	if want := []string{"start containerd.service", "restart kubelet.service"}; !slices.Equal(w.units.calls, want) {
		t.Errorf("systemd was asked for %q, want %q", w.units.calls, want)
	}
}

func TestTheResolverIsRestartedWhenItsServersChange(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.userData("    network: {nameservers: [10.0.0.3]}"))
	w.mustJoin()
	if !slices.Contains(w.units.calls, "restart systemd-resolved.service") {
		t.Errorf("systemd was asked for %q", w.units.calls)
	}
	w.units.calls = nil
	w.mustJoin()
	if slices.Contains(w.units.calls, "restart systemd-resolved.service") {
		t.Errorf("and again for %q", w.units.calls)
	}
}

func TestTheImagesDropInsAreJoinedWithToo(t *testing.T) {
	w := newWorld(t)
	dropIn := rootfs.File{Path: "/etc/ovenbird/nodeconfig.d/10-base.yaml", Data: []byte("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {flags: [--v=3]}}\n")}
	if err := w.root.Apply(dropIn); err != nil {
		t.Fatal(err)
	}
	w.mustJoin()
	if got := w.read("/etc/eks/kubelet/environment"); !strings.Contains(got, "--v=3") {
		t.Errorf("kubelet gets %s", got)
	}
}

func TestANodeThatWasReadyBeforeTheRebootIsNotReadyYet(t *testing.T) {
	w := newWorld(t)
	w.units.kubelet = func() { // it has not reported, and the Node is as the last kubelet left it
		w.server.SetNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{PodCIDR: "10.244.1.0/24"},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{BootID: "the-last-boot"},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		})
	}
	reported := false
	w.at("ready (kubelet has not reported since this start)", func() {
		reported = true
		w.setNode("10.244.1.0/24", "container runtime network not ready")
	})
	w.mustJoin()
	if !reported {
		t.Error("the old status was taken for the new one")
	}
}

func TestACertificateThatTheClusterForgotIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.mustJoin()
	w.server.Fail(401) // the first call of the second run is /readyz by certificate
	status := w.mustJoin()
	if got := phase(t, status, "api-server"); got.Attempts != 2 || len(w.server.Requests()) != 2 {
		t.Errorf("got %+v and %d requests", got, len(w.server.Requests()))
	}
	if last := w.units.calls[len(w.units.calls)-1]; last != "restart kubelet.service" {
		t.Errorf("kubelet still has the old certificate: %q", last)
	}
}

// TestAKilledAgentConverges ends the agent in every phase and starts it again.
func TestAKilledAgentConverges(t *testing.T) {
	for _, name := range []string{"metadata", "configuration", "storage", "scripts", "files", "containerd", "identity", "api-server", "kubelet", "network", "ready"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, kill := context.WithCancel(t.Context())
			w.at(name, kill)
			if err := w.join(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("the first run ended with %v", err)
			}
			w.mustJoin()
			if len(w.server.Requests()) != 1 {
				t.Errorf("%d certificates were asked for", len(w.server.Requests()))
			}
		})
	}
}

func TestABrokenStatusFileOrSystemdDoesNotKeepANodeFromJoining(t *testing.T) {
	w := newWorld(t)
	// A directory in the way of the file.
	if err := os.MkdirAll(w.root.Join(boot.StatusPath), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.join(ctx); err != nil {
		t.Error(err)
	}
}
