package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/discover/ekstest"
	"github.com/ovenbird-dev/ovenbird/agent/faulttest"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/packer/release"
)

// peerVariable names another node agent with nodeadm's interface, to be held against ours.
const peerVariable = "PEER"

const benchNode = "ip-10-0-1-5.us-west-2.compute.internal"

// instance is an EC2 instance as far as a node agent can tell: metadata, AWS's APIs, an API
// server, and a systemd whose units start at once.
type instance struct {
	metadata *imdstest.Server
	aws      *ekstest.Server
	server   *apiservertest.Server
	machine  machine
}

// series is a command, what it took run by run, and how often it called in the last.
type series struct {
	name, userData string
	args           []string
	runs           []usage
	metadata, aws  float64
}

// measureInit measures the agent's own time on an instance where it has to wait for nobody:
// from its start until the node is Ready, which is when it exits. It needs the user-data for
// that and the API server's certificate for the node. A peer has less to do: it runs twice, as
// Amazon's image runs nodeadm, to write the files and to start kubelet, and waits neither for it
// nor for a certificate; containerd is left out of the second run, where it pulls from AWS.
func measureInit(ctx context.Context) (entries []Entry, err error) {
	dir, err := os.MkdirTemp("", "ovenbird-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	agent, err := filepath.Abs("bin/ovenbird-agent")
	if err != nil {
		return nil, err
	}
	stand := stage{ctx: ctx}
	defer stand.close()
	i, err := newInstance(dir, &stand)
	if err != nil {
		return nil, err
	}
	full := &series{name: "init", userData: i.complete(), args: []string{agent, "init"}}
	named := &series{name: "init by the cluster's name", userData: i.nameOnly(), args: []string{agent, "init"}}
	root := &series{name: "init --root", args: []string{agent, "init", "--root", "/var/node", "--user-data", "/etc/user-data", "--metadata", "/etc/instance.json"}}
	peer := &series{name: "peer's init", userData: i.complete()}
	all := []*series{full, named, root}
	if path := os.Getenv(peerVariable); path != "" {
		peer.args = []string{"/bin/sh", "-c", `"$0" init --skip run && exec "$0" init --skip config --daemon kubelet`, path}
		all = append(all, peer)
	}
	for run := range initRuns {
		for _, s := range all {
			if err := i.run(ctx, s); err != nil {
				return nil, err
			}
			took := s.runs[run]
			fmt.Fprintf(os.Stderr, "run %d, %s: %.0f ms, %.0f ms of processor, %.1f MB\n", run+1, s.name, 1000*took.Seconds, 1000*took.CPU, took.Peak)
		}
	}
	sizes, err := binarySizes(agent, os.Getenv(peerVariable))
	if err != nil {
		return nil, err
	}
	return initEntries(full, named, root, peer, sizes), nil
}

// initEntries says what was measured. A peer without runs was not.
func initEntries(full, named, root, peer *series, sizes []float64) []Entry {
	milliseconds := func(u usage) float64 { return 1000 * u.Seconds }
	processor := func(u usage) float64 { return 1000 * u.CPU }
	peak := func(u usage) float64 { return u.Peak }
	against := func(name, unit string, of func(usage) float64) Entry {
		if len(peer.runs) == 0 {
			e := alone(name, unit, full, of)
			e.Against = peerVariable
			return e
		}
		return compared(name, unit, peerVariable, full.each(of), peer.each(of))
	}
	return []Entry{
		against("agent from its start to Ready", "ms", milliseconds),
		against("agent's processor time until Ready", "ms", processor),
		against("agent's peak memory", "MB", peak),
		versus("agent's size, stripped", "MB", peerVariable, sizes[0], sizes[1], 1),
		versus("agent's calls to instance metadata", "calls", peerVariable, full.metadata, peer.metadata, initRuns),
		{Name: "agent's calls to AWS, complete user-data", Value: full.aws, Unit: "calls", Runs: initRuns},
		{Name: "agent's calls to AWS, cluster by name", Value: named.aws, Unit: "calls", Runs: initRuns},
		alone("agent from its start to Ready, cluster by name", "ms", named, milliseconds),
		alone("agent init --root", "ms", root, milliseconds),
	}
}

func (s *series) each(of func(usage) float64) (values []float64) {
	for _, u := range s.runs {
		values = append(values, of(u))
	}
	return values
}

func alone(name, unit string, s *series, of func(usage) float64) Entry {
	return Entry{Name: name, Value: median(s.each(of)), Unit: unit, Runs: len(s.runs)}
}

// versus makes an entry of figures that do not vary. A reference of 0 was not measured.
func versus(name, unit, against string, value, reference float64, runs int) Entry {
	e := Entry{Name: name, Value: value, Unit: unit, Against: against, Reference: reference, Runs: runs}
	if reference > 0 {
		e.Ratio = value / reference
	}
	return e
}

// binarySizes returns the sizes of programs in MB, 0 for none.
func binarySizes(paths ...string) (sizes []float64, err error) {
	for _, path := range paths {
		size := 0.0
		if path != "" {
			info, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			size = float64(info.Size()) / 1e6
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// The instance, as its identity document and as init --root wants it.
const (
	identityDocument = `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`
	instanceFacts    = `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a",` +
		`"privateIpv4":"10.0.1.5","privateDnsName":"` + benchNode + `","cpus":2,"memoryMiB":3900}`
	roleCredentials = `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"x","Token":"x","Expiration":"2099-01-01T00:00:00Z"}`
)

func newInstance(dir string, stand *stage) (*instance, error) {
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	i := &instance{server: apiservertest.Start(stand)}
	i.server.Token = func(string) string { return "system:node:" + benchNode }
	i.aws = ekstest.Start(stand, ekstest.Cluster("ACTIVE", i.server.URL, i.server.CA, ekstest.IPv4))
	i.metadata = imdstest.Start(stand, map[string]string{ //nolint:gosec // the credentials are nobody's
		"dynamic/instance-identity/document":               identityDocument,
		"meta-data/local-hostname":                         benchNode,
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": roleCredentials,
		// A peer's questions.
		"meta-data/local-ipv4":      "10.0.1.5",
		"meta-data/mac":             "02:00:00:00:00:01",
		"meta-data/services/domain": "amazonaws.com",
	})
	bus := filepath.Join(dir, "bus")
	systemd := faulttest.NewSystemd(stand, bus)
	systemd.Unit("containerd.service", func() error { return nil })
	systemd.Unit("ovenbird-watch.service", func() error { return nil })
	systemd.Unit("kubelet.service", func() error {
		i.server.SetNode(readyNode(strings.TrimSpace(string(bootID))))
		return nil
	})
	i.machine, err = i.newMachine(dir, "unix:path="+bus)
	return i, err
}

// newMachine returns what is on the instance's disk and in its processes' environment.
func (i *instance) newMachine(dir, bus string) (machine, error) {
	releases, err := release.Releases()
	if err != nil {
		return machine{}, err
	}
	version := releases[0].Kubernetes.Version
	described, err := json.Marshal(image.Release{Kubernetes: version, PauseImage: "localhost/ovenbird/pause:" + version})
	if err != nil {
		return machine{}, err
	}
	// A peer asks kubelet for its version, and looks whether there is a provider of credentials.
	kubelet := filepath.Join(dir, "kubelet")
	if err := os.WriteFile(kubelet, []byte("#!/bin/sh\necho Kubernetes v"+version+"\n"), 0o700); err != nil { //nolint:gosec // to be run
		return machine{}, err
	}
	m := machine{
		Dir:   filepath.Join(dir, "machine"),
		Files: map[string]string{image.Path: string(described), "/etc/user-data": i.complete(), "/etc/instance.json": instanceFacts},
		Env: []string{
			"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + i.metadata.URL, "AWS_ENDPOINT_URL=" + i.aws.URL, "DBUS_SYSTEM_BUS_ADDRESS=" + bus,
			"ECR_CREDENTIAL_PROVIDER_BIN_PATH=" + kubelet, "PATH=" + dir + ":" + os.Getenv("PATH"), "USER=root", "NOTIFY_SOCKET=", "NO_PROXY=127.0.0.1",
		},
	}
	return m, os.Mkdir(m.Dir, 0o700)
}

// readyNode is the Node that a kubelet registers, with what the cluster gives it.
func readyNode(bootID string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: benchNode},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{BootID: bootID},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

const userDataHead = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\nContent-Type: application/node.eks.aws\n\n" +
	"apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: demo\n"

// complete is user-data that needs no AWS call.
func (i *instance) complete() string {
	return userDataHead + fmt.Sprintf("    apiServerEndpoint: %s\n    certificateAuthority: %s\n    cidr: 10.100.0.0/16\n--//--\n",
		i.server.URL, base64.StdEncoding.EncodeToString(i.server.CA))
}

// nameOnly is user-data that needs one, to an API of a private authority.
func (i *instance) nameOnly() string {
	return userDataHead + fmt.Sprintf("--//\nContent-Type: application/x-pem-file\n\n%s--//--\n", i.aws.CA)
}

// run runs a command of s once.
func (i *instance) run(ctx context.Context, s *series) error {
	i.metadata.Set("user-data", s.userData)
	metadata, calls := len(i.metadata.Calls()), len(i.aws.Calls())
	m := i.machine
	m.Args = s.args
	took, err := m.run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.runs = append(s.runs, took)
	s.metadata, s.aws = float64(len(i.metadata.Calls())-metadata), float64(len(i.aws.Calls())-calls)
	return nil
}
