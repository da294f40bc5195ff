package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// programs are what the tests run in a tree.
var programs = []string{"sh", "cat", "chmod", "mkdir", "tar", "sleep", "setsid", "mount", "id"}

// smallTree lays out just enough of this machine's own system to run a shell.
func smallTree(t *testing.T) Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	root := t.TempDir()
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "etc", "bin", "mnt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		copyFile(t, path, filepath.Join(root, "bin", name))
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for word := range strings.FieldsSeq(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				copyFile(t, word, filepath.Join(root, word))
			}
		}
	}
	return Tree{Dir: root}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

// mounts lists the machine's mounts below dir.
func mounts(t *testing.T, dir string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], dir) {
			found = append(found, fields[4])
		}
	}
	return found
}

// processes lists the machine's processes whose command line holds marker.
func processes(t *testing.T, marker string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range lines {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(marker)) {
			found = append(found, string(bytes.ReplaceAll(content, []byte{0}, []byte{' '})))
		}
	}
	return found
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestACommandSeesTheTreeAndLeavesNoMount(t *testing.T) {
	tree := smallTree(t)
	if err := os.WriteFile(filepath.Join(tree.Dir, "etc/name"), []byte("tree"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := tree.Command(t.Context(), nil, "sh", "-c",
		`cat /etc/name && [ -r /proc/self/mounts ] && echo x >/dev/null && [ -d /sys/kernel ] && echo left >/run/file && mount -t tmpfs none /mnt && echo " $$"`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := string(out); !strings.HasPrefix(got, "tree ") {
		t.Errorf("the command printed %q", got)
	}
	if left := mounts(t, tree.Dir); len(left) > 0 {
		t.Errorf("mounts are left: %v", left)
	}
	for _, dir := range []string{"run", "mnt", "dev", "proc", "sys"} {
		if entries, _ := os.ReadDir(filepath.Join(tree.Dir, dir)); len(entries) > 0 {
			t.Errorf("files are left in /%s: %v", dir, entries)
		}
	}
}

func TestACommandSeesWhatIsBoundForIt(t *testing.T) {
	tree, outside := smallTree(t), t.TempDir()
	cmd := tree.Command(t.Context(), []Bind{{Source: outside, Target: "/mnt"}}, "sh", "-c", "echo made inside >/mnt/file")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, _ := os.ReadFile(filepath.Join(outside, "file")); string(got) != "made inside\n" {
		t.Errorf("the bound directory holds %q", got)
	}
}

func TestACommandTakesNothingOfTheMachinesEnvironment(t *testing.T) {
	t.Setenv("LD_PRELOAD_SECRET", "x")
	t.Setenv("https_proxy", "http://proxy:3128")
	env := Environment(time.Time{})
	if slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "LD_PRELOAD_SECRET") }) {
		t.Error("a variable of the machine reached the tree")
	}
	if !slices.Contains(env, "https_proxy=http://proxy:3128") {
		t.Error("the proxy did not reach the tree")
	}
}

func TestACancelledCommandLeavesNoProcessAndNoMount(t *testing.T) {
	tree := smallTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := tree.Command(ctx, nil, "sh", "-c", "mount -t tmpfs none /mnt; setsid sleep 86401 & sleep 86401")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "two sleepers", func() bool { return len(processes(t, "sleep\x0086401")) == 2 })
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the cancelled command succeeded")
	}
	if left := processes(t, "86401"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if left := mounts(t, tree.Dir); len(left) > 0 {
		t.Errorf("mounts are left: %v", left)
	}
}

// TestMain lets the test binary be a build that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TREE_TEST_BUILD"); dir != "" {
		err := Tree{Dir: dir}.Command(context.Background(), nil, "sh", "-c", "setsid sleep 86402 & sleep 86402").Run()
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestAKilledBuildLeavesNoProcessAndNoMount(t *testing.T) {
	tree := smallTree(t)
	build := exec.Command(os.Args[0])
	build.Env = append(os.Environ(), "TREE_TEST_BUILD="+tree.Dir)
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "two sleepers", func() bool { return len(processes(t, "sleep\x0086402")) == 2 })
	if err := build.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = build.Wait()
	waitFor(t, "the sleepers' end", func() bool { return len(processes(t, "86402")) == 0 })
	if left := mounts(t, tree.Dir); len(left) > 0 {
		t.Errorf("mounts are left: %v", left)
	}
}

func TestACommunicatorRunsCommands(t *testing.T) {
	comm := NewCommunicator(t.Context(), smallTree(t))
	defer comm.Close()
	endless, _ := io.Pipe()
	for _, test := range []struct {
		name, command string
		stdin         io.Reader
		stdout        string
		status        int
	}{
		{name: "output", command: "echo out", stdout: "out\n"},
		{name: "root", command: "id -u", stdout: "0\n"},
		{name: "status", command: "exit 7", status: 7},
		{name: "signal", command: "kill -9 $$", status: 137},
		{name: "input", command: "cat", stdin: strings.NewReader("in"), stdout: "in"},
		{name: "input that never ends", command: "echo done", stdin: endless, stdout: "done\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := &packersdk.RemoteCmd{Command: test.command, Stdin: test.stdin, Stdout: &out}
			if err := comm.Start(t.Context(), cmd); err != nil {
				t.Fatal(err)
			}
			if status := cmd.Wait(); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if out.String() != test.stdout {
				t.Errorf("output %q, want %q", out.String(), test.stdout)
			}
		})
	}
}

func TestACommunicatorKeepsUploadsInsideTheTree(t *testing.T) {
	tree := smallTree(t)
	comm := NewCommunicator(t.Context(), tree)
	defer comm.Close()
	outside := filepath.Join(t.TempDir(), "victim")
	// On the node this link leads to the node's own file, and so it does here.
	if err := os.MkdirAll(filepath.Join(tree.Dir, filepath.Dir(outside)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(tree.Dir, "etc/link")); err != nil {
		t.Fatal(err)
	}
	if err := comm.Upload("/etc/link", strings.NewReader("content"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("the upload left the tree")
	}
	var got bytes.Buffer
	if err := comm.Download("/etc/link", &got); err != nil || got.String() != "content" {
		t.Errorf("downloaded %q, %v", got.String(), err)
	}
	if err := comm.Upload("/no/such/directory/file", strings.NewReader("x"), nil); err == nil {
		t.Error("an upload to nowhere succeeded")
	}
}

func TestACommunicatorCopiesDirectories(t *testing.T) {
	tree := smallTree(t)
	comm := NewCommunicator(t.Context(), tree)
	defer comm.Close()
	source := filepath.Join(t.TempDir(), "source")
	for name, content := range map[string]string{"a": "1", ".hidden": "2", "sub/b": "3", "sub/skip.log": "4"} {
		file := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := comm.UploadDir("/tmp/whole", source, []string{"*.log"}); err != nil {
		t.Fatal(err)
	}
	if err := comm.UploadDir("/tmp/inside", source+"/", nil); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{
		"tmp/whole/source/a": true, "tmp/whole/source/.hidden": true, "tmp/whole/source/sub/b": true,
		"tmp/whole/source/sub/skip.log": false, "tmp/inside/a": true, "tmp/inside/sub/skip.log": true,
	} {
		if _, err := os.Stat(filepath.Join(tree.Dir, file)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", file, err, want)
		}
	}
	back := filepath.Join(t.TempDir(), "back")
	if err := comm.DownloadDir("/tmp/inside", back, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(back, "sub/b")); string(got) != "3" {
		t.Errorf("downloaded %q", got)
	}
	if err := comm.UploadDir("/tmp/none", filepath.Join(source, "missing"), nil); err == nil {
		t.Error("uploading a directory that is not there succeeded")
	}
}

func TestAClosedCommunicatorEndsCommandsAndRefusesMore(t *testing.T) {
	comm := NewCommunicator(t.Context(), smallTree(t))
	cmd := &packersdk.RemoteCmd{Command: "sleep 86403"}
	if err := comm.Start(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a sleeper", func() bool { return len(processes(t, "sleep\x0086403")) == 1 })
	comm.Close()
	if left := processes(t, "86403"); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if status := cmd.Wait(); status != 137 {
		t.Errorf("status %d, want that of a kill", status)
	}
	if err := comm.Start(t.Context(), &packersdk.RemoteCmd{Command: "id"}); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed communicator answered %v", err)
	}
	if err := comm.Upload("/tmp/x", strings.NewReader("x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed communicator answered %v", err)
	}
}

func TestACommandCannotSetTheMachinesKernel(t *testing.T) {
	tree := smallTree(t)
	const setting = "/proc/sys/vm/max_map_count"
	before, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{setting, "/proc/sysrq-trigger"} {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		// Opening is enough: where it succeeds, nothing is written.
		out, err := tree.Command(t.Context(), nil, "sh", "-c", ": >>"+file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Read-only file system") {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
	if out, err := tree.Command(t.Context(), nil, "cat", setting).CombinedOutput(); err != nil || string(out) != string(before) {
		t.Errorf("a command reads %q, %v, want %q", out, err, before)
	}
}

func TestACommandSeesTheTreesBindsAndItsDate(t *testing.T) {
	tree, shared := smallTree(t), t.TempDir()
	tree.Binds, tree.Epoch = []Bind{{Source: shared, Target: "/run/a/b"}}, time.Unix(1700000000, 0)
	cmd := tree.Command(t.Context(), nil, "sh", "-c", `echo "$SOURCE_DATE_EPOCH $TZ $LC_ALL" >/run/a/b/file`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, _ := os.ReadFile(filepath.Join(shared, "file")); string(got) != "1700000000 UTC C.UTF-8\n" {
		t.Errorf("the command wrote %q", got)
	}
	if left := mounts(t, tree.Dir); len(left) > 0 {
		t.Errorf("mounts are left: %v", left)
	}
}
