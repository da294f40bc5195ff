package node

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// machine is a communicator to a machine that exists in memory: it keeps what is
// uploaded, answers downloads, and notes the commands that are run.
type machine struct {
	mu       sync.Mutex
	files    map[string][]byte // by base name
	commands []string          // without our scripts' random directory
	facts    string
	imported []string // the images that containerd says it has
	// fail makes a script exit 1 after it has said so; hang makes it never exit.
	fail, hang string
}

var allImages = []string{
	"localhost/ovenbird/pause:1.37.2", "localhost/ovenbird/kube-proxy:v1.37.2", "localhost/ovenbird/coredns:v1.15.0",
	"localhost/ovenbird/busybox:1.37.0", "localhost/ovenbird/busybox:latest",
}

func newMachine(t *testing.T) *machine {
	return &machine{
		facts:    "0\nx86_64\ndebian 13\n",
		imported: slices.Clone(allImages),
		files: map[string][]byte{
			"nft.tar":         tarOf(t, map[string]string{"usr/sbin/nft": "nft", "lib64/ld-linux-x86-64.so.2": "ld"}),
			"busybox.tar":     tarOf(t, map[string]string{"usr/bin/busybox": "busybox"}),
			"applets":         []byte("[\nbusybox\nsh\nwget\n"),
			"busybox-version": []byte("1.37.0"),
		},
	}
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (m *machine) Start(_ context.Context, cmd *packersdk.RemoteCmd) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	words := strings.Fields(strings.ReplaceAll(cmd.Command, "'", ""))
	for i, word := range words {
		if at := strings.Index(word, "/ovenbird-node-"); at >= 0 {
			words[i] = strings.TrimPrefix(path.Base(word), "ovenbird-node-")
			if len(words[i]) == 36 {
				words[i] = "STAGE"
			}
		}
	}
	command := strings.Join(words, " ")
	m.commands = append(m.commands, command)
	switch {
	case m.hang != "" && strings.Contains(command, m.hang):
	case m.fail != "" && strings.Contains(command, m.fail):
		fmt.Fprintln(cmd.Stderr, m.fail, "went wrong")
		cmd.SetExited(1)
	default:
		if strings.Contains(command, "install.sh") {
			fmt.Fprintln(cmd.Stdout, "Kubernetes v1.37.2")
		}
		if strings.Contains(command, "import.sh") {
			fmt.Fprintln(cmd.Stdout, strings.Join(m.imported, "\n"))
		}
		cmd.SetExited(0)
	}
	return nil
}

func (m *machine) Upload(target string, r io.Reader, _ *os.FileInfo) error {
	content, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[path.Base(target)] = content
	return err
}

func (m *machine) Download(source string, w io.Writer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.files[path.Base(source)]
	if path.Base(source) == "facts" {
		content, ok = []byte(m.facts), true
	}
	if !ok {
		return errors.New("no such file")
	}
	_, err := w.Write(content)
	return err
}

func (m *machine) UploadDir(string, string, []string) error   { return errors.New("not used") }
func (m *machine) DownloadDir(string, string, []string) error { return errors.New("not used") }

func provision(ctx context.Context, t *testing.T, m *machine) error {
	t.Helper()
	dir, agent := components(t)
	p := new(Provisioner)
	if err := p.Prepare(map[string]any{"kubernetes_version": "1.37.2", "components_dir": dir, "agent_path": agent}); err != nil {
		t.Fatal(err)
	}
	return p.Provision(ctx, packersdk.TestUi(t), m, nil)
}

func TestAMachineBecomesANode(t *testing.T) {
	const check = "sh facts.sh STAGE busybox-static ca-certificates conntrack dbus ethtool iproute2 e2fsprogs iptables kmod mdadm mount nftables systemd-resolved util-linux"
	for _, test := range []struct {
		name, facts string
		want        []string
	}{
		{"as root, with all packages", "0\nx86_64\ndebian 13\n", []string{
			"mkdir -m 700 STAGE", check, "sh install.sh STAGE", "sh parts.sh STAGE", "sh import.sh STAGE", "rm -rf STAGE",
		}},
		{"as another user, without some packages", "1000\nx86_64\ndebian 13\nconntrack\nnftables\n", []string{
			"mkdir -m 700 STAGE", check, "sudo -n true", "sudo -n sh packages.sh conntrack nftables", "sudo -n sh install.sh STAGE",
			"sudo -n sh parts.sh STAGE", "sudo -n sh import.sh STAGE", "sudo -n rm -rf STAGE",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.facts = test.facts
			if err := provision(t.Context(), t, m); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(m.commands, test.want) {
				t.Errorf("the commands were\n%s\nwant\n%s", strings.Join(m.commands, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// modes are the modes of what was installed, by path.
func (m *machine) modes(t *testing.T) map[string]int64 {
	t.Helper()
	got := map[string]int64{}
	reader := tar.NewReader(bytes.NewReader(m.files["payload.tar"]))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s is owned by %d:%d", header.Name, header.Uid, header.Gid)
		}
		got[header.Name] = header.Mode
	}
	return got
}

func TestTheNodeGetsItsFiles(t *testing.T) {
	m := newMachine(t)
	if err := provision(t.Context(), t, m); err != nil {
		t.Fatal(err)
	}
	got := m.modes(t)
	for name, mode := range map[string]int64{
		"usr/bin/kubelet": 0o755, "usr/bin/containerd": 0o755, "usr/bin/containerd-shim-runc-v2": 0o755, "usr/bin/ctr": 0o755,
		"usr/bin/runc": 0o755, "usr/bin/ovenbird-agent": 0o755,
		"opt/cni/bin/bridge": 0o755, "opt/cni/bin/host-local": 0o755, "opt/cni/bin/loopback": 0o755, "opt/cni/bin/portmap": 0o755,
		"usr/lib/systemd/system/kubelet.service": 0o644, "usr/lib/systemd/system/containerd.service": 0o644,
		"usr/lib/systemd/system/ovenbird-agent.service":      0o644,
		"usr/lib/systemd/system/ovenbird-watch.service":      0o644,
		"usr/lib/systemd/system/ovenbird-imds-guard.service": 0o644, "usr/lib/ovenbird/imds-guard.nft": 0o644,
		"usr/lib/sysctl.d/90-ovenbird-node.conf": 0o644, "usr/lib/modules-load.d/ovenbird-node.conf": 0o644,
		"etc/ovenbird/release.json": 0o644, "etc/kubernetes/kubelet/config.json.d/": 0o755, "var/lib/kubelet/": 0o750,
	} {
		if at, ok := got[name]; !ok || at != mode {
			t.Errorf("%s: there %v, mode %o, want %o", name, ok, at, mode)
		}
	}
	// kube-proxy and pause run in containers only; the operator's and the control
	// plane's programs have no business on a node.
	for _, name := range []string{"usr/bin/kube-proxy", "usr/bin/pause", "usr/bin/kubectl", "usr/bin/ovenbird", "usr/lib/systemd/system/ovenbird.service"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is on the node", name)
		}
	}
	for _, reference := range allImages {
		if !bytes.Contains(m.files["images.tar"], []byte(`"`+reference+`"`)) {
			t.Errorf("there is no image %s", reference)
		}
	}
}

func TestAnImageThatHostsControlPlanesIsANodesAndMore(t *testing.T) {
	plain, both := newMachine(t), newMachine(t)
	if err := provision(t.Context(), t, plain); err != nil {
		t.Fatal(err)
	}
	dir, agent := components(t)
	p := new(Provisioner)
	err := p.Prepare(map[string]any{"kubernetes_version": "1.37.2", "components_dir": dir, "agent_path": agent, "ovenbird_path": withControlPlane(t, dir)})
	if err == nil {
		err = p.Provision(t.Context(), packersdk.TestUi(t), both, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := both.modes(t)
	for name, mode := range plain.modes(t) {
		if got[name] != mode {
			t.Errorf("%s has mode %o, on a node %o", name, got[name], mode)
		}
		delete(got, name)
	}
	want := map[string]int64{
		"usr/bin/ovenbird":                             0o755,
		"usr/lib/systemd/system/ovenbird.service":      0o644,
		"usr/lib/systemd/system/ovenbird-host.service": 0o644,
		"usr/lib/ovenbird/components/coredns/1.15.0/":  0o755,
		"usr/lib/ovenbird/components/etcd/3.7.1/etcd":  0o755,
	}
	for _, version := range []string{"1.36.4", "1.37.2"} {
		for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			want["usr/lib/ovenbird/components/kubernetes/"+version+"/"+name] = 0o755
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("beside a node's files there are\n%v\nwant\n%v", got, want)
	}
	if !slices.Equal(both.commands, plain.commands) {
		t.Errorf("the commands were %q, for a node %q", both.commands, plain.commands)
	}
}

func TestAMachineThatCannotBecomeANodeIsRefused(t *testing.T) {
	for _, test := range []struct{ name, facts, want string }{
		{"another architecture", "0\naarch64\ndebian 13\n", "the machine is aarch64"},
		{"another distribution", "0\nx86_64\nubuntu 24.04\n", "the machine runs ubuntu 24.04"},
		{"an older Debian", "0\nx86_64\ndebian 12\n", "the machine runs debian 12"},
		{"no answer", "", "find out what the machine is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.facts = test.facts
			if err := provision(t.Context(), t, m); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want it to say %q", err, test.want)
			}
			if len(m.files["payload.tar"]) > 0 {
				t.Error("something was installed")
			}
		})
	}
}

func TestAFailingScriptEndsTheBuildWithWhatItSaid(t *testing.T) {
	for _, script := range []string{"facts.sh", "install.sh", "parts.sh", "import.sh"} {
		m := newMachine(t)
		m.fail = script
		if err := provision(t.Context(), t, m); err == nil || !strings.Contains(err.Error(), script+" went wrong") {
			t.Errorf("%s: the error is %v", script, err)
		}
		if last := m.commands[len(m.commands)-1]; last != "rm -rf STAGE" {
			t.Errorf("%s: the last command is %q, which leaves the staging directory", script, last)
		}
	}
}

func TestAnotherVersionOfKubeletIsRefused(t *testing.T) {
	m := newMachine(t)
	dir, agent := components(t)
	if err := os.Rename(path.Join(dir, "kubernetes/1.37.2"), path.Join(dir, "kubernetes/1.36.0")); err != nil {
		t.Fatal(err)
	}
	p := new(Provisioner)
	if err := p.Prepare(map[string]any{"kubernetes_version": "1.36.0", "components_dir": dir, "agent_path": agent}); err != nil {
		t.Fatal(err)
	}
	err := p.Provision(t.Context(), packersdk.TestUi(t), m, nil)
	if err == nil || !strings.Contains(err.Error(), `want "Kubernetes v1.36.0"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestACancelledBuildDoesNotWaitForTheMachine(t *testing.T) {
	m := newMachine(t)
	m.hang = "install.sh"
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			m.mu.Lock()
			reached := slices.Contains(m.commands, "sh install.sh STAGE")
			m.mu.Unlock()
			if reached {
				cancel()
				return
			}
		}
	}()
	if err := provision(ctx, t, m); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if last := m.commands[len(m.commands)-1]; last != "rm -rf STAGE" {
		t.Errorf("the last command is %q, which leaves the staging directory", last)
	}
}

func TestAUserWithoutSudoIsToldWhatIsMissing(t *testing.T) {
	m := newMachine(t)
	m.facts, m.fail = "1000\nx86_64\ndebian 13\n", "sudo"
	err := provision(t.Context(), t, m)
	if err == nil || !strings.Contains(err.Error(), "sudo without a password") {
		t.Errorf("the error is %v", err)
	}
	// Not with sudo, which it has not: the directory is its own so far.
	if last := m.commands[len(m.commands)-1]; last != "rm -rf STAGE" {
		t.Errorf("the last command is %q", last)
	}
}

func TestAnImageThatIsNotImportedIsAnError(t *testing.T) {
	m := newMachine(t)
	m.imported = m.imported[1:]
	if err := provision(t.Context(), t, m); err == nil || !strings.Contains(err.Error(), "containerd did not take localhost/ovenbird/pause:1.37.2") {
		t.Errorf("the error is %v", err)
	}
}

func TestPartsOfTheMachineAreNotTakenOnTrust(t *testing.T) {
	for name, spoil := range map[string]func(*machine){
		"an applet that is a path":  func(m *machine) { m.files["applets"] = []byte("../../etc/passwd") },
		"a version that is no tag":  func(m *machine) { m.files["busybox-version"] = []byte("1.0; rm -rf /") },
		"an archive that is broken": func(m *machine) { m.files["nft.tar"] = []byte("not a tar, but long enough to be read as one") },
	} {
		m := newMachine(t)
		spoil(m)
		if err := provision(t.Context(), t, m); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
