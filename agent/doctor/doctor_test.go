package doctor_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/doctor"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const nodeName = "ip-10-0-1-5.us-west-2.compute.internal"

// machine is a node in good health, with a metadata service, an API server and a kubelet
// that really answer.
type machine struct {
	doctor.Machine
	t        *testing.T
	metadata *imdstest.Server
	server   *apiservertest.Server
	network  *network
	states   units
	space    doctor.Space
	ahead    time.Duration // of the clock
}

type units map[string]string

func (u units) ActiveState(_ context.Context, unit string) (string, error) { return u[unit], nil }

// network leads to the node's own services by their well-known addresses.
type network struct {
	kubelet    string            // where it really listens
	containerd string            // what it says first; "" is nothing, ever
	fail       map[string]error  // by address, or by network
	names      map[string]string // to addresses
}

func (n *network) LookupHost(_ context.Context, host string) ([]string, error) {
	if address, ok := n.names[host]; ok {
		return []string{address}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := errors.Join(n.fail[network], n.fail[address]); err != nil {
		return nil, err
	}
	if network == "unix" {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			preface := make([]byte, 33)
			if _, err := io.ReadFull(theirs, preface); err == nil {
				_, _ = io.WriteString(theirs, n.containerd)
			}
		}()
		return ours, nil
	}
	if address == "127.0.0.1:10248" {
		address = n.kubelet
	}
	if host, port, _ := net.SplitHostPort(address); n.names[host] != "" {
		address = net.JoinHostPort(n.names[host], port)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(kubelet.Close)
	m := &machine{
		t: t, server: apiservertest.Start(t), states: units{"containerd": "active", "kubelet": "active"},
		network: &network{
			kubelet: strings.TrimPrefix(kubelet.URL, "http://"), containerd: "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00",
			fail: map[string]error{}, names: map[string]string{},
		},
		space: doctor.Space{FreeBytes: 15e9, Bytes: 20e9, FreeInodes: 900, Inodes: 1000},
	}
	m.metadata = imdstest.Start(t, map[string]string{
		"dynamic/instance-identity/document": `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`,
		"meta-data/local-hostname":           nodeName,
		"user-data":                          m.userData(m.server.URL, m.server.CA, ""),
	})
	m.Machine = doctor.Machine{
		Root: rootfs.Root(t.TempDir()), Metadata: imds.New(m.metadata.URL, nil), Units: m.states, Network: m.network,
		Now:   func() time.Time { return time.Now().Add(m.ahead) },
		Space: func(string) (doctor.Space, error) { return m.space, nil },
	}
	m.write("/etc/cni/net.d/10-ovenbird.conflist", `{"name":"ovenbird"}`)
	m.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	m.join()
	return m
}

func (m *machine) userData(endpoint string, ca []byte, environment string) string {
	return fmt.Sprintf(`apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: demo, apiServerEndpoint: %q, certificateAuthority: %s, cidr: 10.100.0.0/16}
  instance: {environment: {default: {REGISTRY_PASSWORD: the-secret%s}}}
`, endpoint, base64.StdEncoding.EncodeToString(ca), environment)
}

func (m *machine) write(path, data string) {
	m.t.Helper()
	file := rootfs.File{Path: path, Data: []byte(data)}
	if data == "" {
		file.Data = nil
	}
	if err := m.Root.Apply(file); err != nil {
		m.t.Fatal(err)
	}
}

// join gives the node a certificate.
func (m *machine) join() {
	m.t.Helper()
	m.server.Token = func(string) string { return "system:node:" + nodeName }
	_, cluster, err := boot.ReadUserData([]byte(m.userData(m.server.URL, m.server.CA, "")))
	if err != nil {
		m.t.Fatal(err)
	}
	store := identity.Store{Root: m.Root, NodeName: nodeName, Cluster: cluster, Now: time.Now}
	request, err := store.Request()
	if err != nil {
		m.t.Fatal(err)
	}
	client, err := apiserver.New(apiserver.Config{Endpoint: m.server.URL, CA: m.server.CA, Token: func(context.Context) (string, error) { return "x", nil }})
	if err != nil {
		m.t.Fatal(err)
	}
	certificate, err := client.SignNodeCertificate(m.t.Context(), request.Name, request.PEM)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := store.Save(request, certificate); err != nil {
		m.t.Fatal(err)
	}
}

func TestAHealthyNodePassesEveryCheckInOrder(t *testing.T) {
	m := newMachine(t)
	report := doctor.Examine(t.Context(), m.Machine)
	var order []string
	for _, finding := range report.Findings {
		order = append(order, finding.Check)
		if want := map[bool]doctor.Verdict{true: doctor.Skipped, false: doctor.OK}[finding.Check == "DNS"]; finding.Verdict != want || finding.Found == "" || finding.Advice != "" {
			t.Errorf("got %+v", finding)
		}
	}
	if got, want := strings.Join(order, ", "), "identity, IMDS, DNS, TCP, TLS, certificate, clock, containerd, kubelet, CNI, disk, cgroup v2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, failed := report.FirstFailure(); failed || !report.Healthy {
		t.Errorf("got %+v", report)
	}
}

func TestUserDataThatNamesTheClusterAloneIsNotAFailure(t *testing.T) {
	m := newMachine(t)
	m.metadata.Set("user-data", "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: demo}}\n")
	report := doctor.Examine(t.Context(), m.Machine)
	if first := report.Findings[0]; first.Verdict != doctor.Skipped || !strings.Contains(first.Found, "ovenbird-agent status") || !report.Healthy {
		t.Errorf("got %+v", report)
	}
}

func TestWhatIsWrongIsFoundFirstAndComesWithAdvice(t *testing.T) {
	for name, test := range map[string]struct {
		harm                 func(m *machine)
		check, found, advice string
		skipped              int // checks that could not be made
	}{
		"the metadata service is away": {
			func(m *machine) { m.metadata.Drop(1000) }, "identity", "EOF", "HttpEndpoint", 5},
		"user-data is empty": {
			func(m *machine) { m.metadata.Set("user-data", "") }, "identity", "user-data: empty: a NodeConfig is needed", "config check", 5},
		"user-data has a field too many": {
			func(m *machine) {
				m.metadata.Set("user-data", m.userData(m.server.URL, m.server.CA, "")+"  kubelets: {}\n")
			}, "identity", "spec.kubelets: unknown field", "config check", 5},
		"metadata does not say who the instance is": {
			func(m *machine) { m.metadata.Set("dynamic/instance-identity/document", "{}") }, "IMDS", "privateIp", "169.254.169.254", 2},
		"the endpoint's name does not resolve": {
			func(m *machine) { m.metadata.Set("user-data", m.userData("https://eks.internal", m.server.CA, "")) }, "DNS", "no such host", "resolvectl query eks.internal", 2},
		"the endpoint refuses connections": {
			func(m *machine) {
				m.network.fail[strings.TrimPrefix(m.server.URL, "https://")] = errors.New("connection refused")
			},
			"TCP", "connect to the API endpoint: connection refused", "security group", 3},
		"the endpoint is another cluster's": {
			func(m *machine) {
				m.metadata.Set("user-data", m.userData(m.server.URL, apiservertest.Start(m.t).CA, ""))
			}, "TLS", "unknown authority", "certificateAuthority", 1},
		"the endpoint is called by a name that it does not have": {
			func(m *machine) {
				m.network.names["eks.internal"] = "127.0.0.1"
				_, port, _ := strings.Cut(strings.TrimPrefix(m.server.URL, "https://"), ":")
				m.metadata.Set("user-data", m.userData("https://eks.internal:"+port, m.server.CA, ""))
			}, "TLS", "eks.internal", "has no such name", 0},
		"the API server is not ready": {
			func(m *machine) { m.server.NotReady = true }, "TLS", "503", "control plane", 1},
		"the clock is a day ahead": {
			func(m *machine) { m.ahead = 24 * time.Hour }, "TLS", "expired", "clock", 1},
		"the clock is two minutes ahead": {
			func(m *machine) { m.ahead = 2 * time.Minute }, "clock", " off the API endpoint's; 30s is tolerated", "chronyc makestep", 1},
		"there is no certificate yet": {
			func(m *machine) { m.write("/var/lib/kubelet/pki/kubelet-client-current.pem", "") }, "certificate", "none yet", "ovenbird-agent status", 1},
		"the certificate is of another node": {
			func(m *machine) { m.metadata.Set("meta-data/local-hostname", "ip-10-0-9-9.internal") }, "certificate", "not for system:node:ip-10-0-9-9.internal", "restart ovenbird-agent", 1},
		"containerd has not been started": {
			func(m *machine) { m.states["containerd"] = "inactive" }, "containerd", "containerd.service is inactive", "journalctl -u containerd", 1},
		"containerd's socket is not there": {
			func(m *machine) { m.network.fail["unix"] = errors.New("no such file") }, "containerd", "/run/containerd/containerd.sock: no such file", "restart containerd", 1},
		"containerd hangs up": {
			func(m *machine) { m.network.containerd = "" }, "containerd", "no answer", "restart containerd", 1},
		"something else is at containerd's socket": {
			func(m *machine) { m.network.containerd = "HTTP/1.1 400 Bad Request\r\n\r\n" }, "containerd", "does not speak gRPC", "restart containerd", 1},
		"kubelet starts over and over": {
			func(m *machine) { m.states["kubelet"] = "activating" }, "kubelet", "kubelet.service is activating", "journalctl -u kubelet", 1},
		"kubelet is up and not healthy": {
			func(m *machine) { m.network.fail["127.0.0.1:10248"] = errors.New("connection refused") }, "kubelet", "healthz: connection refused", "does not call itself healthy", 1},
		"there is no pod network": {
			func(m *machine) { m.write("/etc/cni/net.d/10-ovenbird.conflist", "") }, "CNI", "no configuration in /etc/cni/net.d", "pod CIDR", 1},
		"the pod network's configuration is broken": {
			func(m *machine) { m.write("/etc/cni/net.d/00-a.conf", "{") }, "CNI", "00-a.conf", "Remove or mend", 1},
		"the disk is full": {
			func(m *machine) { m.space.FreeBytes = 1e9 }, "disk", "1.0 of 20.0 GB free (5%)", "evicts pods below 10%", 1},
		"the disk has no inodes": {
			func(m *machine) { m.space.FreeInodes = 40 }, "disk", "4% of inodes", "evicts pods below 5%", 1},
		"cgroups are version 1": {
			func(m *machine) { m.write("/sys/fs/cgroup/cgroup.controllers", "") }, "cgroup v2", "not mounted", "/proc/cmdline", 1},
		"a controller is turned off": {
			func(m *machine) { m.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n") }, "cgroup v2", "no controller memory", "/proc/cmdline", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.harm(m)
			report := doctor.Examine(t.Context(), m.Machine)
			first, failed := report.FirstFailure()
			if !failed || report.Healthy || first.Check != test.check || !strings.Contains(first.Found, test.found) || !strings.Contains(first.Advice, test.advice) {
				t.Errorf("got %+v", first)
			}
			skipped := 0
			for _, finding := range report.Findings {
				if finding.Verdict == doctor.Skipped {
					skipped++
				}
			}
			if skipped != test.skipped {
				t.Errorf("%d checks were skipped, want %d: %+v", skipped, test.skipped, report.Findings)
			}
		})
	}
}

func TestAFileSystemThatMakesInodesAsItNeedsThemHasEnough(t *testing.T) {
	m := newMachine(t)
	m.space.FreeInodes, m.space.Inodes = 0, 0
	if report := doctor.Examine(t.Context(), m.Machine); !report.Healthy {
		t.Errorf("got %+v", report)
	}
}

func TestNothingSecretIsToldAndNobodyLearnsWhoAsks(t *testing.T) {
	m := newMachine(t)
	before := len(m.server.Calls())
	for _, environment := range []string{", A: b", "", `, HTTPS_PROXY: "http://user:the-secret@127.0.0.1:1"`, `, HTTPS_PROXY: "http://user:the-secret@:::/"`} {
		m.metadata.Set("user-data", m.userData(m.server.URL, m.server.CA, environment))
		if environment == "" {
			m.metadata.Set("user-data", m.userData("https://user:the-secret@eks.example", m.server.CA, ""))
		}
		said, err := json.Marshal(doctor.Examine(t.Context(), m.Machine))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"the-secret", "PRIVATE KEY", "BEGIN"} {
			if strings.Contains(string(said), secret) {
				t.Errorf("%q is in %s", secret, said)
			}
		}
	}
	for _, call := range m.server.Calls()[before:] {
		if call != "GET /readyz" {
			t.Errorf("the API server saw %q", call)
		}
	}
}

func TestThroughAProxyItIsTheProxyThatIsConnectedTo(t *testing.T) {
	m := newMachine(t)
	proxied := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied++
		http.Error(w, r.Method, http.StatusForbidden)
	}))
	t.Cleanup(proxy.Close)
	m.network.names["proxy.internal"] = "127.0.0.1"
	m.network.names["eks.example"] = "" // only the proxy knows
	_, port, _ := strings.Cut(strings.TrimPrefix(proxy.URL, "http://"), ":")
	m.metadata.Set("user-data", m.userData("https://eks.example", m.server.CA, fmt.Sprintf(", HTTPS_PROXY: %q", "http://proxy.internal:"+port)))
	report := doctor.Examine(t.Context(), m.Machine)
	first, _ := report.FirstFailure()
	if first.Check != "TLS" || proxied == 0 || !strings.Contains(report.Findings[3].Found, "the proxy to the API endpoint at proxy.internal:"+port) {
		t.Errorf("got %+v", report)
	}
}

// silent answers nothing until it is no longer waited for.
type silent struct{}

func (silent) Instance(ctx context.Context) (imds.Instance, error) {
	<-ctx.Done()
	return imds.Instance{}, ctx.Err()
}

func (silent) UserData(ctx context.Context) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silent) ActiveState(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func TestEachCheckHasFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		report := doctor.Examine(t.Context(), doctor.Machine{
			Root: rootfs.Root(t.TempDir()), Metadata: silent{}, Units: silent{}, Now: time.Now,
			Space: func(string) (doctor.Space, error) { return doctor.Space{}, nil },
		})
		if took := time.Since(started); took != 4*5*time.Second { // identity, IMDS, containerd, kubelet
			t.Errorf("took %s", took)
		}
		if first, _ := report.FirstFailure(); !strings.HasPrefix(first.Found, "no answer in 5s") || len(report.Findings) != 12 {
			t.Errorf("got %+v", report)
		}
	})
}

func TestTheFirstFailureIsFoundWithoutTheChecksAfterIt(t *testing.T) {
	m := newMachine(t)
	if first, failed := doctor.FirstFailure(t.Context(), m.Machine); failed {
		t.Errorf("on a node that is well: %+v", first)
	}
	m.states["containerd"], m.states["kubelet"] = "failed", "failed"
	m.Space = func(string) (doctor.Space, error) { t.Error("the disk was looked at"); return doctor.Space{}, nil }
	first, failed := doctor.FirstFailure(t.Context(), m.Machine)
	if !failed || first.Check != "containerd" || !strings.Contains(first.Advice, "journalctl -u containerd") {
		t.Errorf("got %+v", first)
	}
}
