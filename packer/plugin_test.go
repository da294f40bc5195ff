package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packer is a Packer to drive the plugin with: the one on PATH, or one built by us.
func packer(t *testing.T) string {
	t.Helper()
	if found, err := exec.LookPath("packer"); err == nil {
		return found
	}
	built, _ := filepath.Glob("../dist/components/packer/*/packer")
	if len(built) == 0 {
		t.Skip("there is no packer; run make components")
	}
	found, err := filepath.Abs(built[len(built)-1])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// install builds the plugin and lays it out as a release is, and returns the
// environment that Packer finds it with.
func install(t *testing.T) []string {
	t.Helper()
	path, err := exec.Command("../scripts/plugin", build(t)).Output()
	if err != nil {
		t.Fatalf("scripts/plugin: %v", err)
	}
	return offline(t, strings.TrimSpace(string(path)))
}

// build compiles the plugin as a release.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "packer-plugin-ovenbird")
	command := exec.Command("go", "build", "-o", binary, "-ldflags", "-X github.com/ovenbird-dev/ovenbird/internal/cli.release=0.1.0", ".")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	return binary
}

// offline is the environment of a Packer that reaches nobody and has its plugins at path.
func offline(t *testing.T, path string) []string {
	t.Helper()
	return append(os.Environ(),
		"PACKER_PLUGIN_PATH="+path, "PACKER_CONFIG_DIR="+t.TempDir(),
		"CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1",
		"HTTPS_PROXY=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9",
	)
}

// laidOut returns template variables that name components and an agent of no content.
func laidOut(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{
		"kubernetes/1.37.2/kubelet", "kubernetes/1.37.2/kube-proxy", "kubernetes/1.37.2/pause",
		"containerd/2.4.2/containerd", "containerd/2.4.2/containerd-shim-runc-v2", "containerd/2.4.2/ctr", "runc/1.5.2/runc",
		"cni-plugins/1.9.1/bridge", "cni-plugins/1.9.1/host-local", "cni-plugins/1.9.1/loopback", "cni-plugins/1.9.1/portmap",
		"coredns/1.15.0/coredns", "agent",
	} {
		path := filepath.Join(dir, program)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"-var", "components_dir=" + dir, "-var", "agent_path=" + filepath.Join(dir, "agent"), "-var", "output=" + filepath.Join(dir, "out")}
}

func TestPackerTakesThePluginAndTheTemplateOffline(t *testing.T) {
	program, env, vars := packer(t), install(t), laidOut(t)
	const template, ami = "templates/node.pkr.hcl", "templates/node-ami.pkr.hcl"
	for _, test := range []struct {
		name string
		args []string
		want string // in the output of a failure; empty: success
	}{
		{"init", []string{"init", template}, ""},
		{"a complete template", append([]string{"validate"}, append(vars, template)...), ""},
		{"a version of Kubernetes", append([]string{"validate", "-evaluate-datasources", "-var", "kubernetes_version=1.37.2"}, append(vars, template)...), ""},
		{"a channel", append([]string{"validate", "-evaluate-datasources", "-var", "channel=1.37"}, append(vars, template)...), ""},
		{"an unknown Kubernetes version", append([]string{"validate", "-evaluate-datasources", "-var", "kubernetes_version=1.2.3"}, append(vars, template)...), `kubernetes_version: this plugin pins no Kubernetes "1.2.3"; there is version 1.37.2`},
		{"an unknown channel", append([]string{"validate", "-evaluate-datasources", "-var", "channel=edge"}, append(vars, template)...), `channel: there is no channel "edge"`},
		{"a wrong size", append([]string{"validate", "-var", "disk_size=6GB"}, append(vars, template)...), `disk_size: "6GB" is not a size`},
		{"the template of an AMI", append([]string{"validate"}, append(vars, ami)...), ""},
		{"a template that is formatted", []string{"fmt", "-check", "templates"}, ""},
	} {
		// Packer speaks to plugins in one of two encodings.
		for _, gob := range []string{"0", "1"} {
			t.Run(test.name+", gob "+gob, func(t *testing.T) {
				cmd := exec.Command(program, test.args...)
				cmd.Env = slices.Concat(env, []string{"PACKER_FORCE_GOB=" + gob})
				out, err := cmd.CombinedOutput()
				if test.want == "" && err != nil {
					t.Errorf("packer %s: %v\n%s", strings.Join(test.args, " "), err, out)
				}
				if test.want != "" && (err == nil || !strings.Contains(string(out), test.want)) {
					t.Errorf("packer %s: %v, want %q in\n%s", strings.Join(test.args, " "), err, test.want, out)
				}
			})
		}
	}
}

func TestAReleaseInstallsOffline(t *testing.T) {
	program, binary := packer(t), build(t)
	const name = "packer-plugin-ovenbird_v0.1.0_x5.0_linux_amd64"
	release := func() string {
		out := t.TempDir()
		if said, err := exec.Command("../scripts/release", binary, out).CombinedOutput(); err != nil {
			t.Fatalf("scripts/release: %v\n%s", err, said)
		}
		return out
	}
	out := release()
	all := func(string) bool { return true }
	compare(t, contents(t, release(), all), contents(t, out, all), "two releases of the same plugin differ")

	check := exec.Command("sha256sum", "--check", "--strict", "packer-plugin-ovenbird_v0.1.0_SHA256SUMS")
	check.Dir = out
	if said, err := check.CombinedOutput(); err != nil || !strings.Contains(string(said), name+".zip: OK") {
		t.Errorf("sha256sum: %v\n%s", err, said)
	}
	if said, err := exec.Command("unzip", "-q", filepath.Join(out, name+".zip"), "-d", out).CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, said)
	}
	env := offline(t, t.TempDir())
	for _, arguments := range [][]string{
		{"plugins", "install", "--path", filepath.Join(out, name), "github.com/ovenbird-dev/ovenbird"},
		{"init", "templates/node.pkr.hcl"},
		slices.Concat([]string{"validate"}, laidOut(t), []string{"templates/node.pkr.hcl"}),
	} {
		cmd := exec.Command(program, arguments...)
		cmd.Env = env
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("packer %s: %v\n%s", strings.Join(arguments, " "), err, said)
		}
	}
}

func TestTheExamplesAreValid(t *testing.T) {
	program, env := packer(t), install(t)
	examples, err := filepath.Glob("examples/*.pkr.hcl")
	if err != nil || len(examples) == 0 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	dir := t.TempDir() // laid out as a checkout after make build
	_, components, _ := strings.Cut(laidOut(t)[1], "=")
	for from, to := range map[string]string{components: "dist/components", filepath.Join(components, "agent"): "bin/ovenbird-agent"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, example := range examples {
		path, err := filepath.Abs(example)
		if err != nil {
			t.Fatal(err)
		}
		for _, arguments := range [][]string{{"init", path}, {"validate", "-evaluate-datasources", path}, {"fmt", "-check", path}} {
			cmd := exec.Command(program, arguments...)
			cmd.Env, cmd.Dir = env, dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("packer %s: %v\n%s", strings.Join(arguments, " "), err, out)
			}
		}
	}
}
