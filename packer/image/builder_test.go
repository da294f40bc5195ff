package image

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// testBuilder prepares a builder whose mmdebstrap is the given shell script. $tree in it
// is the directory that mmdebstrap is told to fill.
func testBuilder(t *testing.T, mmdebstrap string, more map[string]any) (*Builder, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a build needs root")
	}
	if _, err := os.Stat(keyring); err != nil {
		t.Skip("debian-archive-keyring is not installed")
	}
	bin, work := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\nset -eu\nwhile [ \"$1\" != " + suite + " ]; do shift; done\ntree=$2\n" + mmdebstrap + "\n"
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	// No package is newest: nothing is fetched.
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	out := filepath.Join(work, "out")
	fields := map[string]any{"output_directory": out, "cache_directory": filepath.Join(work, "cache")}
	for name, value := range more {
		fields[name] = value
	}
	b := new(Builder)
	if _, _, err := b.Prepare(fields); err != nil {
		t.Fatal(err)
	}
	return b, out
}

func bakeWith(ctx context.Context, t *testing.T, b *Builder) error {
	t.Helper()
	artifact, err := b.Run(ctx, packersdk.TestUi(t), &packersdk.MockHook{})
	if err != nil && artifact != nil {
		t.Errorf("a build that failed has artifact %v", artifact)
	}
	return err
}

// below lists everything in dir.
func below(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	_ = filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err == nil && name != dir {
			names = append(names, strings.TrimPrefix(name, dir+"/"))
		}
		return nil
	})
	return names
}

func TestAFailedBuildSaysWhyAndLeavesNothing(t *testing.T) {
	b, out := testBuilder(t, `mkdir -p "$tree/half"; echo "E: the mirror is gone" >&2; exit 25`, nil)
	err := bakeWith(t.Context(), t, b)
	if err == nil || !strings.Contains(err.Error(), "E: the mirror is gone") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Errorf("the output directory is left: %v", below(t, out))
	}
	if left := below(t, filepath.Join(b.config.CacheDirectory, "tools")); len(left) > 0 {
		t.Errorf("half-made tools are left: %v", left)
	}
}

func TestABakeWithAKeyTrustsNoToolsOfTheCache(t *testing.T) {
	key := filepath.Join(t.TempDir(), "signing.pem")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		more  map[string]any
		fresh bool
	}{
		"no key": {nil, false},
		"a key":  {map[string]any{"signing_key": key}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := testBuilder(t, "exit 25", test.more)
			if err := os.MkdirAll(toolsDirectory(b.config.CacheDirectory, nil), 0o755); err != nil {
				t.Fatal(err)
			}
			err := bakeWith(t.Context(), t, b)
			if err == nil || strings.Contains(err.Error(), "lay out the tools") != test.fresh {
				t.Errorf("the error is %v, want one of the tools: %v", err, test.fresh)
			}
		})
	}
}

func TestACancelledBuildLeavesNothing(t *testing.T) {
	b, out := testBuilder(t, `mkdir -p "$tree/mnt"; mount -t tmpfs none "$tree/mnt"; sleep 86404 & : >"$TMPDIR/started"; wait`, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for {
			if started, _ := filepath.Glob(filepath.Join(out, workPrefix+"*", "started")); len(started) > 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := bakeWith(ctx, t, b); err == nil {
		t.Error("the cancelled build succeeded")
	}
	if _, err := os.Stat(out); err == nil {
		t.Errorf("the output directory is left: %v", below(t, out))
	}
	if left := below(t, filepath.Join(b.config.CacheDirectory, "tools")); len(left) > 0 {
		t.Errorf("half-made tools are left: %v", left)
	}
	if info, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(info), b.config.CacheDirectory) {
		t.Error("a mount is left")
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, process := range processes {
		if content, _ := os.ReadFile(process); strings.Contains(string(content), "86404") {
			t.Errorf("a process is left: %q", content)
		}
	}
}

func TestADiskIsReplacedOnlyWithForce(t *testing.T) {
	for _, force := range []bool{false, true} {
		b, out := testBuilder(t, "exit 1", map[string]any{"packer_force": force})
		write(t, out, map[string]string{diskName: "old"})
		err := bakeWith(t.Context(), t, b)
		if err == nil || strings.Contains(err.Error(), "-force") == force {
			t.Errorf("force %v: the error is %v", force, err)
		}
		if content, _ := os.ReadFile(filepath.Join(out, diskName)); string(content) != "old" {
			t.Errorf("force %v: a build that failed changed the disk to %q", force, content)
		}
	}
}

func TestWhatAKilledBuildHasLeftIsRemoved(t *testing.T) {
	b, out := testBuilder(t, "exit 1", nil)
	write(t, out, map[string]string{workPrefix + "123/root/etc/passwd": "", "notes.txt": ""})
	_ = bakeWith(t.Context(), t, b)
	if left := below(t, out); len(left) != 1 || left[0] != "notes.txt" {
		t.Errorf("the output directory holds %v, want the user's file only", left)
	}
}

func TestOneBuildAtATimeHasAnOutputDirectory(t *testing.T) {
	b, out := testBuilder(t, "exit 1", nil)
	write(t, out, map[string]string{workPrefix + "123/file": ""})
	lock, err := lockDirectory(out)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := bakeWith(t.Context(), t, b); err == nil || !strings.Contains(err.Error(), "another build works in") {
		t.Errorf("the error is %v", err)
	}
	if len(below(t, out)) != 2 {
		t.Errorf("the other build's files are gone: %v", below(t, out))
	}
}

func TestAnArtifactKnowsItsDisk(t *testing.T) {
	out := t.TempDir()
	write(t, out, map[string]string{diskName: ""})
	b := &bake{config: &Config{OutputDirectory: out, diskBytes: 6 * gib}, kernel: "6.12"}
	a := b.artifact(map[string]any{"x": "y"})
	if a.BuilderId() != BuilderID || len(a.Files()) != 1 || a.Files()[0] != filepath.Join(out, diskName) {
		t.Errorf("the artifact is %+v", a)
	}
	if a.State("disk_size") != 6*gib || a.State("kernel") != "6.12" || a.State("nothing") != nil {
		t.Errorf("the artifact's state is %+v", a.state)
	}
	for range 2 { // the second finds nothing to remove
		if err := a.Destroy(); err != nil {
			t.Error(err)
		}
	}
}
