package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/doctor"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func run(command *cobra.Command, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(&errOut)
	command.SilenceErrors, command.SilenceUsage = true, true
	err = command.Execute()
	return out.String(), errOut.String(), err
}

func TestInitWithARootNeedsNoMetadataAndSaysWhatItTakes(t *testing.T) {
	_, stderr, err := run(initCommand(), "--root", t.TempDir(), "--user-data", "testdata/cases/plain/input")
	if err != nil || !strings.Contains(stderr, "taking an example instance") {
		t.Errorf("got %q, %v", stderr, err)
	}
}

func TestInitWithARootTakesTheDropInsThatAreThere(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	const header = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n"
	if err := root.Apply(
		rootfs.File{Path: "/etc/ovenbird/nodeconfig.d/10-a.yaml", Data: []byte(header + "spec: {kubelet: {flags: [--v=1], config: {maxPods: 11}}}\n")},
		rootfs.File{Path: "/etc/ovenbird/nodeconfig.d/20-b.yaml", Data: []byte(header + "spec: {kubelet: {flags: [--v=2], config: {maxPods: 22}}}\n")},
		rootfs.File{Path: "/etc/ovenbird/nodeconfig.d/README", Data: []byte("no NodeConfig\n")},
	); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(initCommand(), "--root", string(root), "--user-data", "testdata/cases/plain/input"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/etc/eks/kubelet/environment": "--v=1 --v=2", "/etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf": `"maxPods": 22`} {
		data, err := os.ReadFile(root.Join(path))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("got %s, %v, want %s", data, err, want)
		}
	}
}

func TestInitWithARootTakesTheImageThatIsThere(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	if err := root.Apply(rootfs.File{Path: "/etc/ovenbird/release.json", Data: []byte(`{"kubernetes":"1.34.4","pauseImage":"pause:1"}`)}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(initCommand(), "--root", string(root), "--user-data", "testdata/cases/plain/input"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(root.Join("/etc/containerd/config.toml"))
	if err != nil || !strings.Contains(string(data), `sandbox = "pause:1"`) {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestWrongInputWritesNothing(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {clutser: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	metadata := filepath.Join(t.TempDir(), "metadata")
	if err := os.WriteFile(metadata, []byte("instanceId: i-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const good = "testdata/cases/plain/input"
	for want, args := range map[string][]string{
		bad + ": line 3: spec.clutser: unknown field":             {"--user-data", bad},
		"open /nowhere: no such file or directory":                {"--user-data", "/nowhere"},
		"--root needs --user-data FILE":                           {},
		metadata + ": instance metadata: instanceType is missing": {"--user-data", good, "--metadata", metadata},
		good + `: unknown field "apiVersion"`:                     {"--user-data", good, "--metadata", good},
	} {
		root := t.TempDir()
		_, _, err := run(initCommand(), append(args, "--root", root)...)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", args, err, want)
		}
		if entries, _ := os.ReadDir(root); len(entries) != 0 {
			t.Errorf("%q: left %v", args, entries)
		}
	}
}

func TestConfigCheckTellsEachProblemInALine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, []byte("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {clutser: {}, cluster: {cidr: x}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	problems := []string{"line 3: spec.clutser: unknown field", `line 3: spec.cluster.cidr: "x" is not a CIDR block such as 10.100.0.0/16`}

	stdout, _, err := run(configCommand(), "check", file)
	if want := file + ": " + strings.Join(problems, "\n"+file+": "); err == nil || err.Error() != want || stdout != "" {
		t.Errorf("got %v and %q, want %s", err, stdout, want)
	}
	stdout, _, err = run(configCommand(), "check", file, "--output", "json")
	var result checkResult
	if jsonErr := json.Unmarshal([]byte(stdout), &result); err == nil || jsonErr != nil || len(result.Problems) != 2 ||
		result.Problems[0] != (nodeconfig.Problem{Line: 3, Field: "spec.clutser", Message: "unknown field"}) {
		t.Errorf("got %s, %v, %v", stdout, err, jsonErr)
	}
}

func TestConfigCheckReadsStandardInput(t *testing.T) {
	command := configCommand()
	command.SetIn(strings.NewReader("kind: NodeConfig\n"))
	_, _, err := run(command, "check", "-")
	if err == nil || err.Error() != `standard input: line 1: apiVersion: want node.eks.aws/v1alpha1, not ""` {
		t.Errorf("got %v", err)
	}
}

func TestConfigCheckSaysWhereWhatIsMissingBelongs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "user-data")
	data := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: application/node.eks.aws\n\n" +
		"apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: demo\n    apiServerEndpoint: https://x\n    cidr: 10.100.0.0/16\n" +
		"--B\nContent-Type: application/node.eks.aws\n\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n--B--\n"
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := run(configCommand(), "check", file)
	if want := file + ": part 1 (application/node.eks.aws), line 4: spec.cluster.certificateAuthority: missing"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestConfigCheckFindsWhatShowsInTheFiles(t *testing.T) {
	data, err := os.ReadFile("testdata/cases/plain/input")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, append(data, "  kubelet: {config: {maxPods: 0}}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(configCommand(), "check", file); err == nil || err.Error() != file+`: line 10: spec.kubelet.config.maxPods: "0" is not a number of pods` {
		t.Errorf("got %v", err)
	}
}

func TestConfigCheckSaysWhatTheNodeWouldJoin(t *testing.T) {
	stdout, _, err := run(configCommand(), "check", "testdata/cases/mime/input")
	if err != nil || stdout != "testdata/cases/mime/input: no problems; the node joins cluster demo at https://10.0.0.10:6443\n" {
		t.Errorf("got %q, %v", stdout, err)
	}
}

func TestConfigCheckSaysWhatIsLeftToDiscovery(t *testing.T) {
	for cluster, want := range map[string]string{
		"{name: demo}": "no problems; the node asks EKS where cluster demo is\n",
		"{}":           "no problems; the node takes its cluster's name from its tags (ovenbird.dev-cluster, eks:cluster-name) and asks EKS where that is\n",
	} {
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, []byte("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: "+cluster+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, _, err := run(configCommand(), "check", file)
		if err != nil || stdout != file+": "+want {
			t.Errorf("got %q, %v", stdout, err)
		}
		if _, _, err := run(initCommand(), "--root", t.TempDir(), "--user-data", file); err == nil || !strings.Contains(err.Error(), "spec.cluster.cidr: missing") {
			t.Errorf("init --root: %v", err)
		}
	}
}

func TestIdentityIsOneOfThree(t *testing.T) {
	const good = "testdata/cases/plain/input"
	root := t.TempDir()
	if _, _, err := run(initCommand(), "--root", root, "--user-data", good, "--identity", "token"); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := os.ReadFile(filepath.Join(root, "var/lib/kubelet/kubeconfig"))
	if err != nil || !strings.Contains(string(kubeconfig), "command: /usr/bin/ovenbird-agent") {
		t.Errorf("got %s, %v", kubeconfig, err)
	}
	_, _, err = run(initCommand(), "--root", t.TempDir(), "--user-data", good, "--identity", "password")
	if err == nil || err.Error() != `--identity: "password" is none of auto, certificate, token` {
		t.Errorf("got %v", err)
	}
}

func TestStatusIsATableOrJSON(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	if _, _, err := run(statusCommand(), "--root", string(root)); err == nil || !strings.HasPrefix(err.Error(), "no status yet") {
		t.Errorf("without a status: %v", err)
	}
	started := 6.5
	kept := boot.Status{Agent: "1", Node: "a", Phases: []boot.PhaseStatus{{Name: "metadata", State: boot.Running, Started: &started, Attempts: 2, LastError: "EOF"}}}
	data, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Apply(rootfs.File{Path: boot.StatusPath, Data: data}); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := run(statusCommand(), "--root", string(root), "--output", "json")
	var got boot.Status
	if jsonErr := json.Unmarshal([]byte(stdout), &got); err != nil || jsonErr != nil || got.Phases[0].LastError != "EOF" {
		t.Errorf("got %s, %v, %v", stdout, err, jsonErr)
	}
	stdout, _, err = run(statusCommand(), "--root", string(root))
	if err != nil || !strings.Contains(stdout, "a is joining: metadata") || !strings.Contains(stdout, "0 calls to AWS APIs") {
		t.Errorf("got %s, %v", stdout, err)
	}
}

func TestMetricsAreThoseOfTheStatus(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	if _, _, err := run(metricsCommand(), "--root", string(root)); err == nil || !strings.HasPrefix(err.Error(), "no status yet") {
		t.Errorf("without a status: %v", err)
	}
	if err := root.Apply(rootfs.File{Path: boot.StatusPath, Data: []byte(`{"agent":"1","phases":[{"name":"metadata","state":"retrying","attempts":3}]}`)}); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := run(metricsCommand(), "--root", string(root))
	if err != nil || !strings.Contains(stdout, "\novenbird_agent_phase_failures_total{phase=\"metadata\"} 3\n") {
		t.Errorf("got %s, %v", stdout, err)
	}
}

// TestWhatTheAgentIsMadeOf keeps heavy packages out: the agent starts on small machines,
// and in the lab on emulated ones.
func TestWhatTheAgentIsMadeOf(t *testing.T) {
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("cannot list packages: %v", err)
	}
	for _, heavy := range []string{
		"k8s.io/client-go/rest", "k8s.io/api/core/v1", // tables of types and their registration
		"github.com/prometheus/common/expfmt",
		"github.com/prometheus/client_golang/prometheus", // by way of k8s.io/kubelet's types
		"github.com/aws/aws-sdk-go-v2/config",            // every way to find credentials
		"github.com/aws/aws-sdk-go-v2/service/sts", "html/template",
		"cel.dev/cel-go/cel", // which is in a program of its own
	} {
		if strings.Contains("\n"+string(list), "\n"+heavy+"\n") {
			t.Errorf("%s has come in", heavy)
		}
	}
}

func TestATimelineIsATableOrJSONOrADrawing(t *testing.T) {
	root := rootfs.Root(t.TempDir())
	if _, _, err := run(timelineCommand(), "--root", string(root)); err == nil || !strings.HasPrefix(err.Error(), "no status yet") {
		t.Errorf("without a status: %v", err)
	}
	started, finished := 6.5, 7.75
	data, err := json.Marshal(boot.Status{Agent: "1", Node: "a", Ready: &finished, Phases: []boot.PhaseStatus{{Name: "metadata", State: boot.Done, Started: &started, Finished: &finished, Attempts: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Apply(rootfs.File{Path: boot.StatusPath, Data: data}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "timeline.svg")
	for want, args := range map[string][]string{
		"Ready after 7.75 s":             {},
		`"name": "kernel and userspace"`: {"--output", "json"},
		"<svg ":                          {"--svg"},
		"":                               {"--svg", file},
	} {
		stdout, _, err := run(timelineCommand(), append(args, "--root", string(root))...)
		if err != nil || !strings.Contains(stdout, want) || want == "" && stdout != "" {
			t.Errorf("%q: got %q, %v", args, stdout, err)
		}
	}
	if drawn, err := os.ReadFile(file); err != nil || !strings.HasSuffix(string(drawn), "</svg>\n") {
		t.Errorf("got %q, %v", drawn, err)
	}
	for _, args := range [][]string{{file}, {"--svg", "--output", "json"}} {
		if stdout, _, err := run(timelineCommand(), append(args, "--root", string(root))...); err == nil || stdout != "" {
			t.Errorf("%q: got %q, %v", args, stdout, err)
		}
	}
}

// noMetadata is no instance metadata service.
type noMetadata struct{}

func (noMetadata) Instance(context.Context) (imds.Instance, error) {
	return imds.Instance{}, errors.New("no route to host")
}
func (noMetadata) UserData(context.Context) ([]byte, error) {
	return nil, errors.New("no route to host")
}
func (noMetadata) ActiveState(context.Context, string) (string, error) { return "inactive", nil }

func TestDoctorEndsWithWhatToDoAboutTheFirstFailure(t *testing.T) {
	command := func() *cobra.Command {
		return doctorCommand(func() (doctor.Machine, error) {
			return doctor.Machine{
				Root: rootfs.Root(t.TempDir()), Metadata: noMetadata{}, Units: noMetadata{}, Now: time.Now,
				Space: func(string) (doctor.Space, error) { return doctor.Space{FreeBytes: 1, Bytes: 1}, nil },
			}, nil
		})
	}
	const first = "identity: no route to host\nWhat to do: The agent reads instance metadata, version 2, at 169.254.169.254."
	stdout, _, err := run(command())
	if err == nil || !strings.HasPrefix(err.Error(), first) {
		t.Errorf("got %v", err)
	}
	for _, row := range []string{"CHECK ", "identity     FAILED   no route to host", "TLS          SKIPPED  which cluster this is", "disk         OK       /var: "} {
		if !strings.Contains(stdout, row) {
			t.Errorf("no %q in:\n%s", row, stdout)
		}
	}
	stdout, _, err = run(command(), "--output", "json")
	var report doctor.Report
	if jsonErr := json.Unmarshal([]byte(stdout), &report); err == nil || jsonErr != nil || report.Healthy || len(report.Findings) != 12 || report.Findings[0].Advice == "" {
		t.Errorf("got %s, %v, %v", stdout, err, jsonErr)
	}
}
