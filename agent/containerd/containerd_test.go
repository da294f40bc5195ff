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
	for name, test := range map[string]struct{ user, want string }{
		"plain":                             {"", "discard_unpacked_layers = true"},
		"a user's TOML for containerd 1":    {"[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = false\n", "discard_unpacked_layers = false"},
		"a user's TOML for containerd 2":    {"version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\ndiscard_unpacked_layers = false\n", "discard_unpacked_layers = false"},
		"a user's runtime, ours left alone": {"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n", "io.containerd.kata.v2"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := containerd.Files(containerd.Input{PauseImage: pause, UserConfig: test.user})
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
			for _, want := range []string{test.want, "sandbox = '" + pause + "'", "SystemdCgroup = true", "base_runtime_spec = '/etc/containerd/base-runtime-spec.json'"} {
				if !strings.Contains(string(dump), want) {
					t.Errorf("no %s in what containerd reads:\n%s", want, dump)
				}
			}
		})
	}
}
