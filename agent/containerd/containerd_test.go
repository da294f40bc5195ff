package containerd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/containerd"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
)

const pause = "localhost/ovenbird/pause:1.37.2"

// mirrors is what people have for containerd 1, a login among it.
const mirrors = `[plugins."io.containerd.grpc.v1.cri".registry]
config_path = ""
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
endpoint = ["https://z.example.com", "mirror.example.com:5000", "https://a.example.com/v2/hub"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
endpoint = ["http://10.0.0.5"]
[plugins."io.containerd.grpc.v1.cri".registry.configs."z.example.com".auth]
password = "hunter2"
[plugins."io.containerd.grpc.v1.cri"]
max_container_log_line_size = 4096
`

func TestFilesAreTheGoldenOnes(t *testing.T) {
	for name, in := range map[string]containerd.Input{
		"plain": {PauseImage: pause},
		"user": {
			PauseImage: pause,
			UserConfig: "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = false\n",
			RuntimeSpec: map[string]any{"process": map[string]any{
				"rlimits": []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}},
			}},
		},
		"mirrors": {PauseImage: pause, UserConfig: mirrors},
		"nvidia":  {PauseImage: pause, Accelerators: nvidia(t)},
		"runtime": {PauseImage: pause, UserConfig: "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := containerd.Files(in)
			if err != nil {
				t.Fatal(err)
			}
			rootfstest.Golden(t, name, files)
		})
	}
}

func TestASandboxImageThatWouldBreakTheFileIsRefused(t *testing.T) {
	for _, image := range []string{"", "a\"b", "a\nb"} {
		if _, err := containerd.Files(containerd.Input{PauseImage: image}); err == nil {
			t.Errorf("%q was accepted", image)
		}
	}
}

// TestContainerdReadsTheFiles asks the real containerd what it makes of them.
func TestContainerdReadsTheFiles(t *testing.T) {
	binaries, err := filepath.Glob("../../dist/components/containerd/*/containerd")
	if err != nil || len(binaries) == 0 {
		t.Skip("containerd is not built: run make components")
	}
	none := containerd.Accelerators{}
	for name, test := range map[string]struct {
		user, want   string
		accelerators containerd.Accelerators
	}{
		"plain":                                                     {"", "discard_unpacked_layers = true", none},
		"shims are asked every 10 s":                                {"", "stats_collect_period = '10s'", none},
		"a user's TOML for containerd 1":                            {"[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = false\n", "discard_unpacked_layers = false", none},
		"a user's TOML for containerd 2":                            {"version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\ndiscard_unpacked_layers = false\n", "discard_unpacked_layers = false", none},
		"mirrors, which it would refuse":                            {mirrors, "max_container_log_line_size = 4096", none},
		"a user's runtime, ours left alone":                         {"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n", "io.containerd.kata.v2", none},
		"NVIDIA devices":                                            {"", "default_runtime_name = 'nvidia'", nvidia(t)},
		"NVIDIA devices, and its program":                           {"", "BinaryName = '/usr/bin/nvidia-container-runtime'", nvidia(t)},
		"NVIDIA devices, runc for those who ask":                    {"", "containerd.runtimes.runc.options]", nvidia(t)},
		"NVIDIA devices, a user's default runtime for containerd 1": {"[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"runc\"\n", "default_runtime_name = 'runc'", nvidia(t)},
		"NVIDIA devices, a user's default runtime for containerd 2": {"version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd]\ndefault_runtime_name = \"runc\"\n", "default_runtime_name = 'runc'", nvidia(t)},
		"NVIDIA devices, a user's TOML about other things":          {"[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = false\n", "default_runtime_name = 'nvidia'", nvidia(t)},
		"Neuron devices":                                            {"", "default_runtime_name = 'runc'", containerd.AcceleratorsOf(rootfs.Root(t.TempDir()), []containerd.Accelerator{containerd.Neuron})},
		"NVIDIA devices, and no runtime for them":                   {"", "default_runtime_name = 'runc'", containerd.AcceleratorsOf(rootfs.Root(t.TempDir()), []containerd.Accelerator{containerd.NVIDIA})},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := containerd.Files(containerd.Input{PauseImage: pause, UserConfig: test.user, Accelerators: test.accelerators})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := rootfs.Root(dir).Apply(files...); err != nil {
				t.Fatal(err)
			}
			config := filepath.Join(dir, "etc/containerd/config.toml")
			data, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			// The import is an absolute path, which here lies under dir.
			moved := strings.ReplaceAll(string(data), "/etc/containerd/conf.d/", filepath.Join(dir, "etc/containerd/conf.d")+"/")
			if err := os.WriteFile(config, []byte(moved), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), binaries[len(binaries)-1], "--config", config, "config", "dump")
			var complaints strings.Builder
			command.Stderr = &complaints
			dump, err := command.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, complaints.String())
			}
			if strings.Contains(complaints.String(), "unknown key") {
				t.Errorf("containerd does not know all of it: %s", complaints.String())
			}
			if got, want := strings.Count(string(dump), "SystemdCgroup = true"), strings.Count(string(dump), "BinaryName = '/usr/bin/nvidia")+1; got != want {
				t.Errorf("%d runtimes of ours have systemd's cgroups, want %d:\n%s", got, want, dump)
			}
			for _, want := range []string{test.want, "sandbox = '" + pause + "'", "SystemdCgroup = true", "base_runtime_spec = '/etc/containerd/base-runtime-spec.json'", "config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'"} {
				if !strings.Contains(string(dump), want) {
					t.Errorf("no %s in what containerd reads:\n%s", want, dump)
				}
			}
		})
	}
}

func TestMirrorsThatCannotBeAreRefusedWithoutTheirSecrets(t *testing.T) {
	for says, mirror := range map[string]string{
		"is not a registry's host":           "\"../../x\"]\nendpoint = [\"https://a\"]",
		"docker.io: want endpoint":           "\"docker.io\"]\nendpoint = \"https://a\"",
		"docker.io: an endpoint is not of":   "\"docker.io\"]\nendpoint = [\"https://user:hunter2@a\"]",
		"example.com: an endpoint is not of": "\"example.com\"]\nendpoint = [\"ftp://a\"]",
	} {
		_, err := containerd.Files(containerd.Input{PauseImage: pause, UserConfig: "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors." + mirror + "\n"})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %s", err, says)
		}
	}
}

func TestWhatContainerdTwoDoesNotTakeIsWarnedOf(t *testing.T) {
	got := strings.Join(containerd.Warnings(mirrors), "\n")
	if !strings.Contains(got, "registry.mirrors: ") || !strings.Contains(got, "registry.configs: ") || strings.Contains(got, "hunter2") {
		t.Errorf("got %s", got)
	}
	if got := containerd.Warnings("version = 3\n"); got != nil {
		t.Errorf("got %q", got)
	}
}
