package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/discover/ekstest"
	"github.com/ovenbird-dev/ovenbird/agent/faulttest"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// joinBy is the agent with another clock, and returns its exit status.
func joinBy(clock boot.Clock) int {
	root := &cobra.Command{Use: "ovenbird-agent"}
	command := initCommand()
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		options, err := surroundings(identity.Auto)
		if err != nil {
			return err
		}
		options.Clock = clock
		options.Random = func() float64 { return 0 } // the longest delays, so that attempts can be counted
		return boot.Join(cmd.Context(), options)
	}
	root.AddCommand(command)
	return cli.Run(root)
}

func TestTheRealAgentJoins(t *testing.T) {
	t.Parallel()
	w := faulttest.New(t)
	status := w.MustJoin()
	for _, phase := range status.Phases {
		if phase.Attempts != 1 {
			t.Errorf("%s took %d attempts: %s", phase.Name, phase.Attempts, phase.LastError)
		}
	}
	if got := strings.Join(w.Systemd.Calls(), ", "); got != "Reload, RestartUnit containerd.service, RestartUnit kubelet.service, RestartUnit ovenbird-watch.service" {
		t.Errorf("systemd was asked for %s", got)
	}
}

// tenMinutes of failures are 46 attempts: delays of 0.25 s, doubling to 15 s. On a slow
// machine attempts themselves take long, by the agent's clock, and there are fewer.
const (
	tenMinutes    = 10 * time.Minute
	fewInTen      = 5
	mostInTen     = 48
	withSecondGap = 600 // of a phase that waits for a second at most
	// soon is the most for what is mended at its first failures: the agent does not wait for
	// the test to mend it.
	soon = 20
)

func TestNoFaultStrandsANode(t *testing.T) {
	for name, test := range map[string]struct {
		fault        func(t *testing.T, w *faulttest.World)
		phase        string
		least, most  int    // attempts
		says         string // an error
		atLeastAfter time.Duration
	}{
		"instance metadata is not there for ten seconds": {
			func(_ *testing.T, w *faulttest.World) {
				w.MetadataLink.Set(faulttest.Refused)
				w.After(10*time.Second, func() { w.MetadataLink.Set(faulttest.Up) })
			}, "metadata", 2, soon, "connection refused", 10 * time.Second},
		"instance metadata is not there for ten minutes": {
			func(_ *testing.T, w *faulttest.World) {
				w.MetadataLink.Set(faulttest.Refused)
				w.After(tenMinutes, func() { w.MetadataLink.Set(faulttest.Up) })
			}, "metadata", fewInTen, withSecondGap, "connection refused", tenMinutes},
		"instance metadata takes connections and says nothing": {
			func(_ *testing.T, w *faulttest.World) {
				w.MetadataLink.Set(faulttest.Silent)
				w.At("metadata (try 1 failed", func() { w.MetadataLink.Set(faulttest.Up) })
			}, "metadata", 2, soon, "timeout awaiting response headers", 0},
		"instance metadata is slow": {
			func(_ *testing.T, w *faulttest.World) { w.MetadataLink.Delay(200 * time.Millisecond) }, "metadata", 1, 1, "", 0},
		"instance metadata throttles": {
			func(_ *testing.T, w *faulttest.World) { w.Metadata.Fail(503, 429, 503, 429) }, "metadata", 5, 5, "429", 0},
		"instance metadata ends its tokens early": {
			func(_ *testing.T, w *faulttest.World) { w.Metadata.Expire(2) }, "metadata", 3, 3, "401", 0},
		"instance metadata talks nonsense": {
			func(_ *testing.T, w *faulttest.World) {
				w.Metadata.Set("meta-data/local-hostname", "")
				w.At("metadata (try 2 failed", func() { w.Metadata.Set("meta-data/local-hostname", faulttest.NodeName) })
			}, "metadata", 3, soon, "privateDnsName is missing", 0},
		"user-data is broken and then mended": {
			func(_ *testing.T, w *faulttest.World) {
				w.Metadata.Set("user-data", w.UserData("  kubelets: {}"))
				w.At("configuration (try 3 failed", func() { w.Metadata.Set("user-data", w.UserData("")) })
			}, "configuration", 4, soon, "spec.kubelets: unknown field", 0},
		"the EKS API is away for ten minutes": {
			func(t *testing.T, w *faulttest.World) {
				api := ekstest.Start(t, ekstest.Cluster("ACTIVE", "https://api.demo.internal", w.API.CA, ekstest.IPv4))
				link := w.Link("127.0.0.1:8443", api.URL)
				link.Set(faulttest.Refused)
				w.Metadata.Set("user-data", byName(api))
				w.After(tenMinutes, func() { link.Set(faulttest.Up) })
			}, "configuration", fewInTen, mostInTen, "ask EKS about cluster demo: dial tcp 127.0.0.1:8443: connect: connection refused", tenMinutes},
		"the EKS API takes connections and says nothing": {
			func(t *testing.T, w *faulttest.World) {
				api := ekstest.Start(t, ekstest.Cluster("ACTIVE", "https://api.demo.internal", w.API.CA, ekstest.IPv4))
				link := w.Link("127.0.0.1:8443", api.URL)
				link.Set(faulttest.Silent)
				w.Metadata.Set("user-data", byName(api))
				w.At("configuration (try 1 failed", func() { link.Set(faulttest.Up) })
			}, "configuration", 2, soon, "ask EKS about cluster demo: no answer in 10s", 0},
		"the EKS API throttles and then is ill": {
			func(t *testing.T, w *faulttest.World) {
				api := ekstest.Start(t,
					ekstest.Answer{Status: 429, Error: "ThrottlingException"}, ekstest.Answer{Status: 503, Error: "ServiceUnavailableException"},
					ekstest.Cluster("CREATING", "https://api.demo.internal", w.API.CA, ekstest.IPv4),
					ekstest.Cluster("ACTIVE", "https://api.demo.internal", w.API.CA, ekstest.IPv4))
				w.Link("127.0.0.1:8443", api.URL)
				w.Metadata.Set("user-data", byName(api))
			}, "configuration", 4, 4, "cluster demo is CREATING", 0},
		"STS is away for ten minutes, and the API server takes no token": {
			func(_ *testing.T, w *faulttest.World) {
				up := make(chan struct{})
				w.API.Token = func(token string) string {
					select {
					case <-up:
						return w.Authenticate(token)
					default:
						return ""
					}
				}
				w.After(tenMinutes, func() { close(up) })
			}, "identity", fewInTen, mostInTen, "the API server does not accept who is calling", tenMinutes},
		"the API server is away for ten minutes": {
			func(_ *testing.T, w *faulttest.World) {
				w.APILink.Set(faulttest.Refused)
				w.After(tenMinutes, func() { w.APILink.Set(faulttest.Up) })
			}, "identity", fewInTen, mostInTen, "connect: connection refused", tenMinutes},
		"the API server takes connections and says nothing": {
			func(_ *testing.T, w *faulttest.World) {
				w.APILink.Set(faulttest.Silent)
				w.At("identity (try 1 failed", func() { w.APILink.Set(faulttest.Up) })
			}, "identity", 2, soon, "TLS handshake timeout", 0},
		"the API server goes away once the certificate is there": {
			func(_ *testing.T, w *faulttest.World) {
				w.API.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "wait" }
				w.At("identity (certificate request", func() {
					w.APILink.Set(faulttest.Refused) // the watch ends with it
					for _, request := range w.API.Requests() {
						_ = w.API.Sign(request.Name)
					}
					w.API.Judge = nil
				})
				w.At("identity (try 3 failed", func() { w.APILink.Set(faulttest.Up) })
			}, "identity", 4, soon, "connection refused", 0},
		"the API server is overloaded": {
			func(_ *testing.T, w *faulttest.World) { w.API.Fail(429, 503, 500, 503) }, "identity", 5, 5, "told to fail", 0},
		"the API server forbids what the node needs at first": {
			func(_ *testing.T, w *faulttest.World) { w.API.Fail(403, 403) }, "identity", 3, 3, "told to fail", 0},
		"the name server is late": {
			func(_ *testing.T, w *faulttest.World) {
				w.DNS.Set(false)
				w.At("identity (try 4 failed", func() { w.DNS.Set(true) })
			}, "identity", 5, soon, "lookup api.demo.internal on 127.0.0.1:53", 0},
		"the clock is three hours behind until it is set": {
			func(_ *testing.T, w *faulttest.World) {
				w.API.Shift(3 * time.Hour)
				w.At("identity (try 3 failed", func() { w.API.Shift(0) })
			}, "identity", 4, soon, "this machine's clock", 0},
		"the clock is three hours ahead until it is set": {
			func(_ *testing.T, w *faulttest.World) {
				w.API.Shift(-3 * time.Hour)
				w.At("identity (try 3 failed", func() { w.API.Shift(0) })
			}, "identity", 4, soon, "this machine's clock", 0},
		"the clock is wrong enough for tokens only": {
			func(_ *testing.T, w *faulttest.World) {
				w.SetClock(-30 * time.Minute)
				w.At("identity (try 3 failed", func() { w.SetClock(0) })
			}, "identity", 4, soon, "this machine's clock is 30m0s behind the API server's", 0},
		"the clock of a node of Amazon EKS is three hours ahead until it is set": {
			func(_ *testing.T, w *faulttest.World) {
				w.Metadata.Set("user-data", strings.ReplaceAll(w.UserData(""), apiservertest.Host, apiservertest.AmazonHost))
				w.SetClock(3 * time.Hour)
				w.At("api-server (try 3 failed", func() { w.SetClock(0) })
			}, "api-server", 4, soon, "this machine's clock is 3h0m0s ahead of the API server's", 0},
		"the certificate is denied and then granted": {
			func(_ *testing.T, w *faulttest.World) {
				w.API.Judge = func(*certificatesv1.CertificateSigningRequest) string { return "the instance is not running" }
				w.At("identity (try 3 failed", func() { w.API.Judge = nil })
			}, "identity", 4, soon, "was refused: Denied: the instance is not running", 0},
		"containerd crashes in a loop": {
			func(_ *testing.T, w *faulttest.World) { w.Systemd.Fail("containerd.service", 12) }, "containerd", 13, 13, "start containerd.service: failed (see journalctl -u containerd.service)", 0},
		"kubelet crashes in a loop": {
			func(_ *testing.T, w *faulttest.World) { w.Systemd.Fail("kubelet.service", 12) }, "kubelet", 13, 13, "start kubelet.service: failed", 0},
		"the disk of /etc is full": {
			func(_ *testing.T, w *faulttest.World) {
				w.Full = "/etc"
				w.At("files (try 3 failed", w.Free)
			}, "files", 4, soon, "no space left on device", 0},
		"the disk of /var is full": {
			func(_ *testing.T, w *faulttest.World) {
				w.Full = "/var"
				w.At("identity (try 3 failed", w.Free)
			}, "identity", 4, soon, "no space left on device", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := faulttest.New(t)
			test.fault(t, w)
			status := w.MustJoin()
			i := slices.IndexFunc(status.Phases, func(p boot.PhaseStatus) bool { return p.Name == test.phase })
			got := status.Phases[i]
			if got.Attempts < test.least || got.Attempts > test.most || got.LastError == "" != (got.Attempts == 1) {
				t.Errorf("got %d attempts, the last error %q; want %d to %d", got.Attempts, got.LastError, test.least, test.most)
			}
			if !strings.Contains(w.Journal(), test.says) {
				t.Errorf("the journal does not say %q:\n%s", test.says, w.Journal())
			}
			if w.Runs() != 1 {
				t.Errorf("the agent was started %d times", w.Runs())
			}
			if *got.Finished < test.atLeastAfter.Seconds() {
				t.Errorf("%s was done after %.1fs", test.phase, *got.Finished)
			}
			for _, phase := range status.Phases {
				if phase.Name != test.phase && phase.Attempts != 1 {
					t.Errorf("%s took %d attempts: %s", phase.Name, phase.Attempts, phase.LastError)
				}
			}
			if got.Attempts == 1 {
				return
			}
			if failed := `"phase":"` + test.phase + `","attempt":1,`; !strings.Contains(w.Journal(), failed) {
				t.Errorf("the journal does not tell of the first failure:\n%s", w.Journal())
			}
			if !slices.ContainsFunc(w.Notified(), func(state string) bool { return strings.Contains(state, test.phase+" (try 1 failed: ") }) {
				t.Errorf("systemd's status does not tell of the first failure: %q", w.Notified())
			}
		})
	}
}

// byName is user-data that names the cluster and leaves the rest to the EKS API.
func byName(api *ekstest.Server) string {
	return `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: demo}
  instance:
    environment:
      default: {AWS_ENDPOINT_URL_EKS: "https://127.0.0.1:8443", AWS_ENDPOINT_URL_STS: "https://sts.demo.internal/"}
--//
Content-Type: application/x-pem-file

` + string(api.CA) + `
--//--
`
}

// TestAPowerCutInAnyPhaseConverges kills the real process as soon as it says that it is in a
// phase, and starts it again as systemd does.
func TestAPowerCutInAnyPhaseConverges(t *testing.T) {
	for _, phase := range []string{"metadata", "configuration", "storage", "scripts", "files", "containerd", "identity", "api-server", "kubelet", "network", "ready"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			w := faulttest.New(t)
			cut := map[string]string{}
			w.At(phase, func() {
				w.Kill()
				cut = written(t, w)
			})
			w.MustJoin()
			if w.Runs() != 2 {
				t.Errorf("the agent was started %d times", w.Runs())
			}
			if got := len(w.API.Requests()); got != 1 {
				t.Errorf("%d certificates were asked for", got)
			}
			for path, whole := range written(t, w) {
				if half, ok := cut[path]; ok && half != whole {
					t.Errorf("%s was torn: %q, and is %q", path, half, whole)
				}
			}
		})
	}
}

// TestTornFilesAreMended starts the agent where a power cut has left every file that it wrote
// empty, or ending in its middle.
func TestTornFilesAreMended(t *testing.T) {
	for name, part := range map[string]int{"empty": 0, "half": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := faulttest.New(t)
			w.Metadata.Set("user-data", w.UserData("  kubelet: {config: {maxPods: 30}}"))
			w.MustJoin()
			before := written(t, w)
			for path, data := range before {
				if part > 0 {
					data = data[:len(data)/part]
				} else {
					data = ""
				}
				if err := os.WriteFile(w.Root.Join(path), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.MustJoin()
			for path, data := range written(t, w) {
				if was, ok := before[path]; ok && was != data && !strings.Contains(path, "/kubelet-client-") {
					t.Errorf("%s is %q, and was %q", path, data, was)
				}
			}
			if got := len(w.API.Requests()); got != 2 {
				t.Errorf("%d certificates were asked for: the first one is lost with its key", got)
			}
			if calls := w.Systemd.Calls(); !slices.Contains(calls[3:], "RestartUnit kubelet.service") {
				t.Errorf("kubelet still runs with what was: %q", calls)
			}
		})
	}
}

// written returns the files that the agent has written on its disks, without those that are
// under way.
func written(t *testing.T, w *faulttest.World) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, dir := range []string{"/etc", "/var/lib"} {
		err := filepath.WalkDir(w.Root.Join(dir), func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), ".") {
				return err
			}
			path = strings.TrimPrefix(path, string(w.Root))
			if path == "/etc/ovenbird/release.json" || path == "/etc/resolv.conf" {
				return nil
			}
			data, err := os.ReadFile(w.Root.Join(path))
			if os.IsNotExist(err) {
				return nil
			}
			files[path] = string(data)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return files
}
