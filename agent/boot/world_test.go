package boot_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	nodeName = "ip-10-0-1-5.us-west-2.compute.internal"
	conflist = "/etc/cni/net.d/10-ovenbird.conflist"
	stsHost  = "aws.lab.internal"
	bootID   = "1f0a3c52-this-boot"
)

// clock is a clock that nobody waits for: sleeping moves it on.
type clock struct {
	mu     sync.Mutex
	now    time.Duration
	sleeps []time.Duration
	ahead  time.Duration // of the real time of day

	onSleep func() // called at each sleep; nil: nothing
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// leap turns the time of day forward.
func (c *clock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func (c *clock) SinceBoot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += 10 * time.Millisecond // nothing is for free
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
	c.sleeps = append(c.sleeps, d)
	if c.onSleep != nil {
		c.onSleep()
	}
	return ctx.Err()
}

// units is a service manager whose kubelet registers a Node at the API server.
type units struct {
	mu         sync.Mutex
	calls      []string
	watch      []string       // what was asked of the watch's unit
	fail       map[string]int // how often a unit fails to start
	containerd func()
	kubelet    func()
}

func (u *units) call(verb, unit string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if unit == "ovenbird-watch.service" { // it follows whenever the node is Ready
		u.watch = append(u.watch, verb)
	} else {
		u.calls = append(u.calls, strings.TrimSpace(verb+" "+unit))
	}
	if u.fail[unit] > 0 {
		u.fail[unit]--
		return errors.New("start " + unit + ": failed")
	}
	switch unit {
	case "containerd.service":
		u.containerd()
	case "kubelet.service":
		u.kubelet()
	}
	return nil
}

func (u *units) Reload(context.Context) error                 { return u.call("reload", "") }
func (u *units) ReloadNetwork(context.Context) error          { return u.call("reload", "network") }
func (u *units) Start(_ context.Context, unit string) error   { return u.call("start", unit) }
func (u *units) Restart(_ context.Context, unit string) error { return u.call("restart", unit) }

// commands runs scripts by their text.
type commands struct {
	ran []string
	run func(ctx context.Context, text string) (int, error)
	env []string

	units []string                  // that were run
	await func() (int, bool, error) // nil: no unit is there
}

func (c *commands) Await(context.Context, string) (int, bool, error) {
	if c.await == nil {
		return 0, false, nil
	}
	return c.await()
}

func (c *commands) Run(ctx context.Context, unit, path string, environ []string) (int, error) {
	c.units = append(c.units, unit)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o700 {
		return 0, fmt.Errorf("%s: %v, %w", path, info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	c.ran, c.env = append(c.ran, string(text)), environ
	if c.run == nil {
		return 0, nil
	}
	return c.run(ctx, string(text))
}

// world is all that is around the agent: metadata, an API server, systemd, a disk.
type world struct {
	t        *testing.T
	metadata *imdstest.Server
	server   *apiservertest.Server
	units    *units
	commands *commands
	disks    *disks
	clock    *clock
	root     rootfs.Root
	identity identity.Kind
	stsHost  string   // whose tokens the API server takes
	unitLog  []string // of every unit
	examine  func(ctx context.Context) (found, whatToDo string)

	otherConsole io.Writer // nil: console

	mu       sync.Mutex
	console  bytes.Buffer
	journal  bytes.Buffer
	notified []string
	onStatus func(headline string) // called at each STATUS=
	tokens   int
	distinct map[string]bool // tokens that were shown
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: apiservertest.Start(t), clock: &clock{now: 5 * time.Second}, root: rootfs.Root(t.TempDir()), commands: &commands{}, stsHost: stsHost, distinct: map[string]bool{}}
	w.disks = &disks{root: w.root}
	w.units = &units{
		fail:       map[string]int{},
		containerd: func() {},
		kubelet:    func() { w.setNode("", "container runtime network not ready") },
	}
	w.server.Token = w.authenticate
	w.metadata = imdstest.Start(t, map[string]string{
		"dynamic/instance-identity/document":               `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`,
		"meta-data/local-hostname":                         nodeName,
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`,
		"user-data": w.userData(""),
	})
	if err := w.root.Apply(rootfs.File{Path: image.Path, Data: []byte(`{"kubernetes":"1.37.2","pauseImage":"localhost/ovenbird/pause:1.37.2"}`)}); err != nil {
		t.Fatal(err)
	}
	return w
}

// userData is a NodeConfig for the world's cluster, with more lines of spec.
func (w *world) userData(more string) string {
	return fmt.Sprintf(`apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: demo
    apiServerEndpoint: %s
    certificateAuthority: %s
    cidr: 10.100.0.0/16
  instance:
    environment:
      default: {AWS_ENDPOINT_URL_STS: "https://%s/"}
%s`, w.server.URL, base64.StdEncoding.EncodeToString(w.server.CA), stsHost, more)
}

// authenticate is the token webhook, as far as it goes without STS.
func (w *world) authenticate(token string) string {
	presigned, err := ststoken.Parse(token, w.stsHost, w.clock.Now())
	if err != nil {
		w.t.Errorf("the agent sent a token that no verifier takes: %v", err)
		return ""
	}
	if !strings.Contains(presigned.Query().Get("X-Amz-SignedHeaders"), ststoken.ClusterHeader) {
		w.t.Error("the token is not bound to a cluster")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens++
	w.distinct[token] = true
	return "system:node:" + nodeName
}

// setNode makes the Node be there, Ready when nothing keeps it from being so.
func (w *world) setNode(podCIDR, notReady string) {
	status, message := corev1.ConditionTrue, "kubelet is posting ready status"
	if notReady != "" {
		status, message = corev1.ConditionFalse, notReady
	}
	w.server.SetNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Spec:       corev1.NodeSpec{PodCIDR: podCIDR},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: bootID}, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: message}}},
	})
}

// notify is systemd's end of sd_notify. What the rest of the cluster does follows from
// what the agent says that it waits for.
func (w *world) notify(state string) error {
	w.mu.Lock()
	w.notified = append(w.notified, state)
	w.mu.Unlock()
	headline, _ := strings.CutPrefix(state, "STATUS=")
	if w.onStatus != nil {
		w.onStatus(headline)
	}
	switch {
	case strings.Contains(headline, "network (the node has no pod CIDR yet"):
		w.setNode("10.244.1.0/24", "container runtime network not ready")
	case strings.Contains(headline, "ready (container runtime network not ready)"):
		if _, err := os.Stat(w.root.Join(conflist)); err != nil && w.stsHost == stsHost {
			w.t.Errorf("the agent waits for Ready without a pod network: %v", err)
		}
		w.setNode("10.244.1.0/24", "")
	}
	return nil
}

func (w *world) join(ctx context.Context) error {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	meter := &traffic.Meter{}
	var console io.Writer = &w.console
	if w.otherConsole != nil {
		console = w.otherConsole
	}
	return boot.Join(ctx, boot.Options{
		Root: w.root, Metadata: imds.New(w.metadata.URL, meter.Metadata.Wrap), Traffic: meter, Units: w.units, Commands: w.commands, Disks: w.disks, Clock: w.clock, Random: func() float64 { return 0 },
		CPUs: 2, Identity: w.identity, BootID: bootID, Environ: []string{"PATH=/usr/bin", "NOTIFY_SOCKET=/run/x"}, Release: "test",
		Log:     zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(&w.journal)), zap.DebugLevel)),
		Console: console, Notify: w.notify, Examine: w.examine,
		Journal: func(context.Context, string) ([]string, error) { return w.unitLog, nil },
	})
}

// mustJoin fails the test unless the node becomes Ready, and checks what must always be so.
func (w *world) mustJoin() boot.Status {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.join(ctx); err != nil {
		w.t.Fatalf("%v\n%s", err, w.journal.String())
	}
	status, err := boot.ReadStatus(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	ready := slices.ContainsFunc(w.notified, func(state string) bool {
		return strings.HasPrefix(state, "READY=1\nSTATUS="+nodeName+" is Ready in cluster demo, ")
	})
	if status.Ready == nil || !ready {
		w.t.Errorf("status is %+v, systemd heard %q", status, w.notified)
	}
	for _, phase := range status.Phases {
		if phase.State != boot.Done {
			w.t.Errorf("phase %s is %s", phase.Name, phase.State)
		}
	}
	said := w.console.String() + w.journal.String() + strings.Join(w.notified, "\n") + w.read(boot.StatusPath)
	for _, secret := range []string{"the-secret-key", "the-session-token", ststoken.Prefix, "PRIVATE KEY"} {
		if strings.Contains(said, secret) {
			w.t.Errorf("%q was told", secret)
		}
	}
	return status
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.root.Join(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func phase(t *testing.T, status boot.Status, name string) boot.PhaseStatus {
	t.Helper()
	for _, phase := range status.Phases {
		if phase.Name == name {
			return phase
		}
	}
	t.Fatalf("no phase %s in %+v", name, status)
	return boot.PhaseStatus{}
}
