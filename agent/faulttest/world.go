// Package faulttest is a machine for the agent to fail on: the real agent, in a process of
// its own, with everything around it that can break. The process is root in a network
// namespace, a mount namespace and a root directory of its own, which is why tests need root.
// There it finds, where a node has them:
//
//   - instance metadata at 169.254.169.254, of which Metadata holds the answers and
//     MetadataLink the way there;
//   - a name server at 127.0.0.1 (DNS), which knows the API server's name;
//   - the API server (API, APILink), which signs certificates, and takes the tokens that
//     Authenticate takes;
//   - systemd behind a system bus (Systemd), with a containerd that starts and a kubelet
//     that registers the Node as soon as the files it reads are whole;
//   - sd_notify's socket, a console and a journal, all of which are kept.
//
// A case makes a World, breaks something, arranges by At or After when it is mended, and
// calls MustJoin, which fails the test unless the node becomes Ready by itself and checks
// what must always be so: nothing secret was told, nothing was told twice. What it returns is
// the status, for the case's own assertions. Whatever else a case needs at a machine goes
// into the fields of World before the first start: another unit by Systemd.Unit, another
// service by Link, another file by Root.Apply. The package's test needs a TestMain that calls
// Enter first.
//
// Waits between attempts, and ten minutes of After, pass Speed times faster than time does.
package faulttest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	// NodeName is what the Node is called.
	NodeName = "ip-10-0-1-5.us-west-2.compute.internal"
	// Speed is how much faster than time the agent's clock runs.
	Speed = 300

	stsHost = "sts.demo.internal"
	// deadline ends a test whose node is stranded, in real time.
	deadline = time.Minute
)

// Secrets are what must not be told, besides tokens and private keys.
var secrets = []string{"the-secret-key", "the-session-token", ststoken.Prefix, "PRIVATE KEY"}

// World is one machine and all that is around it.
type World struct {
	Root         rootfs.Root // the machine's files
	Metadata     *imdstest.Server
	MetadataLink *Link
	API          *apiservertest.Server
	APILink      *Link
	DNS          *NameServer
	Systemd      *Systemd
	// Full is a directory of the machine that has no space left until Free.
	Full string

	t       *testing.T
	network *network
	started time.Duration

	mu       sync.Mutex
	pid      int
	journal  bytes.Buffer
	console  bytes.Buffer
	notified []string
	argv     []string // command lines and environments of the processes
	hooks    []hook
	changed  chan struct{} // closed and replaced at each word of the agent
	runs     int
}

type hook struct {
	text string
	act  func()
}

// New makes a machine on which nothing is broken. It skips the test when the caller is not
// root, but not in CI.
func New(t *testing.T) *World {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs root, for namespaces, and CI must run it")
		}
		t.Skip("this test needs root, for namespaces")
	}
	dir, err := os.MkdirTemp("", "node") // t.TempDir is too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &World{
		Root: rootfs.Root(dir), API: apiservertest.Start(t), network: newNetwork(t),
		t: t, started: boot.SystemClock{}.SinceBoot(), changed: make(chan struct{}),
	}
	w.API.Token = w.Authenticate
	w.Metadata = imdstest.Start(t, map[string]string{ //nolint:gosec // the credentials are nobody's
		"dynamic/instance-identity/document":               `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`,
		"meta-data/local-hostname":                         NodeName,
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`,
		"user-data": w.UserData(""),
	})
	w.network.ip(t, "address", "add", "169.254.169.254/32", "dev", "lo")
	w.MetadataLink = w.Link("169.254.169.254:80", w.Metadata.URL)
	w.APILink = w.Link("127.0.0.1:443", w.API.URL)
	w.DNS = &NameServer{t: t, network: w.network}
	w.DNS.Set(true)
	t.Cleanup(func() { w.DNS.Set(false) })
	w.layOut()
	w.Systemd = NewSystemd(t, w.Root.Join("/run/dbus/system_bus_socket"))
	w.Systemd.Unit("containerd.service", func() error { return nil })
	w.Systemd.Unit("kubelet.service", w.startKubelet)
	w.Systemd.Unit("ovenbird-watch.service", func() error { return nil })
	return w
}

// Link makes a way from the machine's network to the service at the URL backend.
func (w *World) Link(address, backend string) *Link {
	target, err := url.Parse(backend)
	if err != nil {
		w.t.Fatal(err)
	}
	link := newLink(w.t, w.network, address, target.Host)
	link.Set(Up)
	return link
}

// UserData is a NodeConfig for the world's cluster, with more lines of spec.
func (w *World) UserData(more string) string {
	return fmt.Sprintf(`apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: demo
    apiServerEndpoint: https://%s
    certificateAuthority: %s
    cidr: 10.100.0.0/16
  instance:
    environment:
      default: {AWS_ENDPOINT_URL_STS: "https://%s/"}
%s`, apiservertest.Host, base64.StdEncoding.EncodeToString(w.API.CA), stsHost, more)
}

// layOut makes the files that are on a machine before the agent runs, and what listens there.
func (w *World) layOut() {
	w.t.Helper()
	for _, dir := range []string{"proc", "dev", "tmp", "var", "run/systemd", "run/dbus"} {
		if err := os.MkdirAll(w.Root.Join(dir), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := os.Symlink("/run", w.Root.Join("/var/run")); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Root.Apply(
		rootfs.File{Path: "/dev/null", Data: []byte{}},
		rootfs.File{Path: "/etc/resolv.conf", Data: []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")},
		rootfs.File{Path: image.Path, Data: []byte(`{"kubernetes":"1.37.2","pauseImage":"localhost/ovenbird/pause:1.37.2"}`)},
	); err != nil {
		w.t.Fatal(err)
	}
	notify, err := (&net.ListenConfig{}).ListenPacket(w.t.Context(), "unixgram", w.Root.Join("/run/systemd/notify"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { notify.Close() })
	go w.listen(notify)
	path := w.Root.Join("/dev/console")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		w.t.Fatal(err)
	}
	console, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0) // for writing too: it stays open between processes
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { console.Close() })
	go func() { _, _ = io.Copy(locked{w, &w.console}, console) }()
}

// locked is a buffer of the world's.
type locked struct {
	w *World
	b *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.b.Write(p)
}

// listen is systemd's end of sd_notify.
func (w *World) listen(conn net.PacketConn) {
	packet := make([]byte, 64<<10)
	for {
		count, _, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		state := string(packet[:count])
		w.mu.Lock()
		w.notified = append(w.notified, state)
		var due []func()
		var left []hook
		for _, hook := range w.hooks {
			if strings.Contains(state, hook.text) {
				due = append(due, hook.act)
			} else {
				left = append(left, hook)
			}
		}
		w.hooks = left
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		for _, act := range due {
			act()
		}
		if strings.Contains(state, "ready (container runtime network not ready)") {
			w.setNode("") // as kubelet does once there is a pod network
		}
	}
}

// At calls act once, when the status that systemd hears says text: "identity (try 2 failed".
func (w *World) At(text string, act func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks = append(w.hooks, hook{text, act})
}

// After calls act after d of the agent's clock, from when the agent first runs.
func (w *World) After(d time.Duration, act func()) {
	w.At("is joining", func() {
		timer := time.AfterFunc(d/Speed, act)
		w.t.Cleanup(func() { timer.Stop() })
	})
}

// SetClock makes the machine's clock be ahead, as far as the agent dates things by it. Go
// checks certificates of others by the real one: for those, shift the clock of API.
func (w *World) SetClock(ahead time.Duration) {
	if err := w.Root.Apply(rootfs.File{Path: aheadPath, Data: []byte(ahead.String())}); err != nil {
		w.t.Error(err)
	}
}

// Authenticate is the token webhook, as far as it goes without STS: "" for a token that is
// dated wrong.
func (w *World) Authenticate(token string) string {
	for _, host := range []string{stsHost, "sts.us-west-2.amazonaws.com"} {
		if _, err := ststoken.Parse(token, host, w.API.Now()); err == nil {
			return "system:node:" + NodeName
		}
	}
	return ""
}

// startKubelet registers the Node, if the files that kubelet reads are whole.
func (w *World) startKubelet() error {
	root := w.root()
	for _, path := range []string{
		"/etc/kubernetes/kubelet/config.json", "/etc/kubernetes/pki/ca.crt", "/etc/eks/kubelet/environment",
		"/var/lib/kubelet/kubeconfig",
		"/var/lib/kubelet/pki/kubelet-client-current.pem",
	} {
		data, err := os.ReadFile(root.Join(path))
		if err != nil {
			return err
		}
		if path == "/var/lib/kubelet/kubeconfig" && !bytes.Contains(data, []byte("kubelet-client-current.pem")) {
			break // it says by token who it is
		}
		if len(data) == 0 || strings.HasSuffix(path, ".json") && !json.Valid(data) {
			return fmt.Errorf("%s is torn", path)
		}
	}
	w.setNode("container runtime network not ready")
	return nil
}

func (w *World) setNode(notReady string) {
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		w.t.Error(err)
	}
	status, message := corev1.ConditionTrue, "kubelet is posting ready status"
	if notReady != "" {
		status, message = corev1.ConditionFalse, notReady
	}
	w.API.SetNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: NodeName},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24"},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{BootID: strings.TrimSpace(string(bootID))},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: message}},
		},
	})
}

// root is the machine's files as the agent sees them now.
func (w *World) root() rootfs.Root {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pid != 0 {
		return rootfs.Root(fmt.Sprintf("/proc/%d/root", w.pid))
	}
	return w.Root
}

// Free gives space to the disk that is full.
func (w *World) Free() {
	if err := os.Remove(w.root().Join(filepath.Join(w.Full, filler))); err != nil {
		w.t.Error(err)
	}
}

// Journal returns what the agent logged.
func (w *World) Journal() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.journal.String()
}

// Console returns what the agent wrote there.
func (w *World) Console() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.console.String()
}

// Notified returns what systemd was told, in order.
func (w *World) Notified() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.notified...)
}

// Runs returns how many processes there were.
func (w *World) Runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs
}
