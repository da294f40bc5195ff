package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// components lays out a components directory of small programs.
func components(t *testing.T) (dir, agent string) {
	t.Helper()
	dir = t.TempDir()
	for component, version := range map[string]string{"kubernetes": "1.37.2", "containerd": "2.4.2", "runc": "1.5.2", "cni-plugins": "1.9.1", "coredns": "1.15.0"} {
		for _, name := range programs[component] {
			writeProgram(t, filepath.Join(dir, component, version, name))
		}
	}
	agent = filepath.Join(t.TempDir(), "ovenbird-agent")
	writeProgram(t, agent)
	return dir, agent
}

func writeProgram(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("program "+filepath.Base(path)), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestATemplateIsChecked(t *testing.T) {
	dir, agent := components(t)
	without := func(path string) string {
		dir, _ := components(t)
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name                       string
		kubernetes, dir, agentPath string
		want                       string // in the error; empty: none
	}{
		{"everything", "1.37.2", dir, agent, ""},
		{"no Kubernetes version", "", dir, agent, "kubernetes_version: must be set"},
		{"a minor version", "1.37", dir, agent, `kubernetes_version: "1.37" is not a full version`},
		{"a version with a v", "v1.37.2", dir, agent, `kubernetes_version: "v1.37.2" is not a full version`},
		{"a version that is a path", "../1.37.2", dir, agent, "kubernetes_version: "},
		{"a version that was not built", "1.36.9", dir, agent, "kubernetes_version: there is no Kubernetes 1.36.9 in components_dir"},
		{"no components", "1.37.2", "", agent, "components_dir: must be set"},
		{"components that are not there", "1.37.2", "/no/such/directory", agent, "components_dir: there is no directory /no/such/directory"},
		{"components without runc", "1.37.2", without("runc"), agent, "components_dir: there is no directory"},
		{"components without a version of CoreDNS", "1.37.2", without("coredns/1.15.0"), agent, "components_dir: there is no version in"},
		{"components without kube-proxy", "1.37.2", without("kubernetes/1.37.2/kube-proxy"), agent, "kube-proxy"},
		{"no agent", "1.37.2", dir, "", "agent_path: must be set"},
		{"an agent that is not there", "1.37.2", dir, "/no/such/agent", "agent_path: there is no /no/such/agent"},
		{"an agent that does not run", "1.37.2", dir, plain, "agent_path: " + plain + " is not a program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := new(Provisioner).Prepare(map[string]any{"kubernetes_version": test.kubernetes, "components_dir": test.dir, "agent_path": test.agentPath})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && err == nil:
				t.Error("accepted")
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("the error is %q, want it to say %q", err, test.want)
			case test.want != "" && strings.Contains(err.Error(), "\n"):
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

func TestTheNewestOfEachComponentIsInstalled(t *testing.T) {
	dir, agent := components(t)
	for _, name := range programs["containerd"] {
		writeProgram(t, filepath.Join(dir, "containerd", "2.10.0", name))
	}
	if err := os.MkdirAll(filepath.Join(dir, "containerd", "not-a-version"), 0o755); err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := c.prepare(map[string]any{"kubernetes_version": "1.37.2", "components_dir": dir, "agent_path": agent}); err != nil {
		t.Fatal(err)
	}
	if c.release.Containerd != "2.10.0" {
		t.Errorf("containerd %s is chosen, want 2.10.0", c.release.Containerd)
	}
}

func TestTheReleaseIsWhatTheAgentReads(t *testing.T) {
	r := release{Kubernetes: "1.37.2", Containerd: "2.4.2", Runc: "1.5.2", CNIPlugins: "1.9.1", CoreDNS: "1.15.0", PauseImage: "localhost/ovenbird/pause:1.37.2", dir: "/secret/path"}
	got, err := r.file()
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "kubernetes": "1.37.2",
  "containerd": "2.4.2",
  "runc": "1.5.2",
  "cniPlugins": "1.9.1",
  "coredns": "1.15.0",
  "pauseImage": "localhost/ovenbird/pause:1.37.2"
}
`
	if string(got) != want {
		t.Errorf("release.json is\n%s\nwant\n%s", got, want)
	}
}

// withControlPlane adds what hosts control planes to a components directory.
func withControlPlane(t *testing.T, dir string) (ovenbird string) {
	t.Helper()
	for _, version := range []string{"1.36.4", "1.37.2"} {
		for _, name := range controlPlanePrograms {
			writeProgram(t, filepath.Join(dir, "kubernetes", version, name))
		}
	}
	writeProgram(t, filepath.Join(dir, "kubernetes", "1.35.0", "kube-apiserver")) // not whole
	writeProgram(t, filepath.Join(dir, "etcd", "3.7.1", "etcd"))
	ovenbird = filepath.Join(t.TempDir(), "ovenbird")
	writeProgram(t, ovenbird)
	return ovenbird
}

func TestWhatHostsControlPlanesIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		without string // below the components directory
		path    func(ovenbird string) string
		want    string
	}{
		"everything":           {"no/such/file", func(o string) string { return o }, ""},
		"no program":           {"no/such/file", func(o string) string { return o + "-missing" }, "ovenbird_path: there is no"},
		"no Kubernetes at all": {"kubernetes/*/kube-apiserver", func(o string) string { return o }, "ovenbird_path: no Kubernetes version in components_dir"},
		"no etcd":              {"etcd", func(o string) string { return o }, "components_dir: there is no directory"},
		"an etcd without etcd": {"etcd/3.7.1/etcd", func(o string) string { return o }, "components_dir: there is no"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, agent := components(t)
			ovenbird := withControlPlane(t, dir)
			gone, err := filepath.Glob(filepath.Join(dir, test.without))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range gone {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			err = new(Provisioner).Prepare(map[string]any{"kubernetes_version": "1.37.2", "components_dir": dir, "agent_path": agent, "ovenbird_path": test.path(ovenbird)})
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("the error is %v, want it to say %q", err, test.want)
			}
		})
	}
}
