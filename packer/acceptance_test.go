package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
	"github.com/ovenbird-dev/ovenbird/packer/verify"
)

// smallDebian stands in for mmdebstrap where a test needs a tree to work in and no
// machine that boots: a shell and what provisioners use, of this machine's own.
const smallDebian = `#!/bin/sh
set -eu
while [ "$1" != trixie ]; do shift; done
mkdir -p "$2"
cd "$2"
mkdir -p proc sys dev run tmp etc root var mnt usr/bin usr/sbin usr/lib etc/systemd/system
for dir in bin sbin lib; do ln -s usr/$dir $dir; done
[ ! -L /lib64 ] || { mkdir usr/lib64; ln -s usr/lib64 lib64; }
for program in sh cat chmod mkdir tar sleep setsid mount ln rm dd ls; do
  path=$(command -v $program)
  cp "$path" usr/bin/
  for library in $(ldd "$path" | grep -o '/[^ ]*'); do cp -n --parents "$library" .; done
done
printf '#!/bin/sh\n' >usr/bin/systemctl
chmod 755 usr/bin/systemctl
`

const provisioned = `
packer {
  required_plugins {
    ovenbird = { version = ">= 0.1.0", source = "github.com/ovenbird-dev/ovenbird" }
  }
}
source "ovenbird-image" "test" {
  output_directory = %[1]q
  cache_directory  = %[2]q
  root_filesystem  = "ext4"
  disk_size        = "2GiB"
}
build {
  sources = ["source.ovenbird-image.test"]
  %[3]s
}
`

// template writes a template that bakes into a new directory, and returns both.
func template(t *testing.T, cache, provisioners string) (file, out string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a bake needs root")
	}
	dir := t.TempDir()
	file, out = filepath.Join(dir, "test.pkr.hcl"), filepath.Join(dir, "out")
	if cache == "" {
		cache = filepath.Join(dir, "cache")
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, provisioned, out, cache, provisioners), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, out
}

// withSmallDebian puts smallDebian first on the PATH of env.
func withSmallDebian(t *testing.T, env []string) []string {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte(smallDebian), 0o755); err != nil {
		t.Fatal(err)
	}
	// No package is newest: nothing is fetched.
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(env, []string{"PATH=" + bin + ":" + os.Getenv("PATH")})
}

// left lists files below out, mounts below it and processes that carry marker.
func left(t *testing.T, out, marker string) []string {
	t.Helper()
	var found []string
	_ = filepath.WalkDir(out, func(name string, _ os.DirEntry, err error) error {
		if err == nil {
			found = append(found, name)
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), out) {
		found = append(found, "a mount below "+out)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, process := range processes {
		if content, _ := os.ReadFile(process); marker != "" && bytes.Contains(content, []byte(marker)) {
			found = append(found, string(content))
		}
	}
	return found
}

// output collects what Packer prints and tells when it has printed something.
type output struct {
	buf     bytes.Buffer
	want    string
	reached chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.buf.Write(p)
	if o.reached != nil && strings.Contains(o.buf.String(), o.want) {
		close(o.reached)
		o.reached = nil
	}
	return len(p), nil
}

func TestAnInterruptedBuildLeavesNothing(t *testing.T) {
	program, env := packer(t), withSmallDebian(t, install(t))
	file, out := template(t, "", `provisioner "shell" {
    inline = ["mount -t tmpfs none /mnt", "setsid sleep 86411 &", "echo at work", "sleep 86411"]
  }`)
	reached := make(chan struct{})
	said := &output{want: "at work", reached: reached}
	cmd := exec.Command(program, "build", file)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, said, said
	// As a terminal does: the interrupt reaches Packer and its plugins.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-reached:
	case err := <-done:
		t.Fatalf("packer ended before it was interrupted: %v\n%s", err, said.buf.String())
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the interrupted build succeeded")
	}
	if found := left(t, out, "86411"); len(found) > 0 {
		t.Errorf("these are left: %q; packer said\n%s", found, said.buf.String())
	}
}

func TestAFullDiskLeavesNothing(t *testing.T) {
	program, env := packer(t), withSmallDebian(t, install(t))
	file, out := template(t, "", `provisioner "shell" {
    inline = ["dd if=/dev/zero of=/root/big bs=1M count=200"]
  }`)
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	// The small disk is there in a mount namespace that ends with the script.
	script := `mount -t tmpfs -o size=96m none "$1"; "$2" build "$3" && exit 9; ls -A "$1"; grep " $1/" /proc/self/mounts || :`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", out, program, file)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	if !strings.Contains(stdout.String(), "No space left on device") {
		t.Errorf("the build did not say that the disk is full:\n%s", stdout.String())
	}
	_, after, _ := strings.Cut(stdout.String(), "Builds finished but no artifacts were created.")
	if strings.TrimSpace(after) != "" {
		t.Errorf("these are left: %s", after)
	}
}

func TestPackerDecidesWhatHappensOnAnError(t *testing.T) {
	program, env := packer(t), withSmallDebian(t, install(t))
	const failing = `provisioner "shell" {
    inline = ["echo made >/etc/marker", "exit 7"]
  }`
	for _, test := range []struct {
		arguments []string
		input     string
		kept      bool // the root file system in the making
	}{
		{[]string{"-on-error=cleanup"}, "", false},
		{[]string{"-on-error=abort"}, "", true},
		{[]string{"-on-error=ask"}, "c\n", false}, // without a terminal Packer does not ask
		{[]string{"-debug"}, strings.Repeat("\n", 40), false},
	} {
		for _, gob := range []string{"0", "1"} {
			t.Run(fmt.Sprint(test.arguments, test.input, " gob ", gob), func(t *testing.T) {
				file, out := template(t, "", failing)
				cmd := exec.Command(program, slices.Concat([]string{"build"}, test.arguments, []string{file})...)
				cmd.Env, cmd.Stdin = slices.Concat(env, []string{"PACKER_FORCE_GOB=" + gob}), strings.NewReader(test.input)
				said, err := cmd.CombinedOutput()
				if err == nil || !strings.Contains(string(said), "exit status 7") && !strings.Contains(string(said), "exit status: 7") {
					t.Errorf("%v\n%s", err, said)
				}
				marker, _ := filepath.Glob(filepath.Join(out, ".bake-*/root/etc/marker"))
				if test.kept != (len(marker) > 0) {
					t.Errorf("the root file system is kept: %v, want %v\n%s", len(marker) > 0, test.kept, said)
				}
				if !test.kept {
					if found := left(t, out, ""); len(found) > 0 {
						t.Errorf("these are left: %q", found)
					}
				}
			})
		}
	}
}

func TestProvisionersWorkInTheImage(t *testing.T) {
	if testing.Short() {
		t.Skip("bakes an image")
	}
	program, env := packer(t), install(t)
	local := t.TempDir()
	if err := os.MkdirAll(filepath.Join(local, "tree/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"motd", "tree/one", "tree/sub/two"} {
		if err := os.WriteFile(filepath.Join(local, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const userImage = "registry.example.com/team/tool:1.0"
	node := realNode(t)
	ociArchive(t, filepath.Join(local, "tool.tar"), userImage)
	file, out := template(t, cacheDirectory(t), fmt.Sprintf(`
  provisioner "file" {
    source      = "%[1]s/motd"
    destination = "/etc/motd"
  }
  provisioner "file" {
    source      = "%[1]s/tree"
    destination = "/opt"
  }
  provisioner "shell" {
    environment_vars = ["GREETING=hello"]
    inline           = ["echo $GREETING >/opt/greeting", "cat /opt/tree/sub/two", "useradd --system --shell /bin/sh baker", "mkdir /opt/back", "cp /etc/motd /opt/back/motd", "install -D -m 600 /dev/null /etc/ssh/ssh_host_rsa_key"]
  }
  provisioner "file" {
    direction   = "download"
    source      = "/opt/greeting"
    destination = "%[1]s/greeting"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/opt/back/"
    destination = "%[1]s/back"
  }
  provisioner "ovenbird-node" {
    container_images = ["%[1]s/tool.tar"]
    %[2]s
  }`, local, node))
	public := signAndExcept(t, file)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "build", file)
	// The other tests that bake whole images use the other encoding.
	cmd.Env = slices.Concat(env, []string{"PACKER_FORCE_GOB=1"})
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packer build: %v\n%s", err, said)
	}
	for name, want := range map[string]string{"greeting": "hello\n", "back/motd": "motd"} {
		if content, _ := os.ReadFile(filepath.Join(local, name)); string(content) != want {
			t.Errorf("downloaded %s holds %q, want %q", name, content, want)
		}
	}
	const root = 129 << 20 // the offset of the second partition
	for name, want := range map[string]string{"/etc/motd": "motd", "/opt/tree/one": "tree/one", "/opt/tree/sub/two": "tree/sub/two", "/opt/greeting": "hello\n"} {
		content, err := exec.Command("debugfs", "-R", "cat "+name, fmt.Sprintf("%s/disk.raw?offset=%d", out, root)).Output()
		if err != nil || string(content) != want {
			t.Errorf("%s in the image holds %q, %v, want %q", name, content, err, want)
		}
	}
	const store = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"
	known, err := exec.Command("debugfs", "-R", "cat "+store, fmt.Sprintf("%s/disk.raw?offset=%d", out, root)).Output()
	if err != nil || !strings.Contains(string(known), userImage) {
		t.Errorf("containerd of the image does not know %s (%d bytes, %v)", userImage, len(known), err)
	}
	locked, err := lock.Read(filepath.Join(out, "ovenbird.lock.json"))
	if err != nil || !slices.ContainsFunc(locked.Images, func(image lock.Image) bool { return slices.Contains(image.Names, userImage) }) {
		t.Errorf("the lock's container images are %+v, %v: want %s among them", locked.Images, err, userImage)
	}
	users, err := exec.Command("debugfs", "-R", "cat /etc/passwd", fmt.Sprintf("%s/disk.raw?offset=%d", out, root)).Output()
	if err != nil || !strings.Contains(string(users), "baker") {
		t.Errorf("the image's users are %q, %v", users, err)
	}
	report, err := os.ReadFile(filepath.Join(out, "report.txt"))
	if err != nil || !strings.Contains(string(report), "EXCEPTED  no-login-shells") || !strings.Contains(string(report), "accepted  the baker bakes") {
		t.Errorf("%v, the report is\n%s", err, report)
	}
	verified, err := verify.Run(ctx, verify.Options{Disk: filepath.Join(out, "disk.raw"), Key: public}, func(verify.Check) {})
	if err != nil || !verified.OK {
		t.Errorf("verify: %v, %+v", err, verified)
	}
}

// signAndExcept has a template sign its disk, and accept an account that can log in. It
// returns the file of the public key.
func signAndExcept(t *testing.T, template string) string {
	t.Helper()
	dir := t.TempDir()
	private, public := filepath.Join(dir, "key.pem"), filepath.Join(dir, "pub.pem")
	for _, arguments := range [][]string{
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private},
		{"pkey", "-in", private, "-pubout", "-out", public},
	} {
		if said, err := exec.Command("openssl", arguments...).CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, said)
		}
	}
	text, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("disk_size = \"2GiB\"\n  signing_key = %q\n  except {\n    control = \"no-login-shells\"\n    reason = \"the baker bakes\"\n  }", private)
	signed := strings.Replace(string(text), `disk_size        = "2GiB"`, more, 1)
	if err := os.WriteFile(template, []byte(signed), 0o600); err != nil || signed == string(text) {
		t.Fatalf("the template has no disk_size to put it beside, %v", err)
	}
	return public
}

func TestTheBakedImageIsWhatItIsSaidToBe(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a disk twice")
	}
	const image = "../.ovenbird/image"
	if _, err := os.Stat(filepath.Join(image, "provenance.json")); err != nil {
		t.Skip("there is no baked image; run make image")
	}
	binary := filepath.Join(t.TempDir(), "ovenbird-image")
	if said, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, said)
	}
	whole, err := filepath.Abs(filepath.Join(image, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), binary, "verify", whole).CombinedOutput(); err != nil || strings.Contains(string(said), "failed") {
		t.Errorf("verify: %v\n%s", err, said)
	}
	dir := t.TempDir()
	for _, name := range []string{"disk.raw", "provenance.json", "sbom.spdx.json"} {
		if err := os.Symlink(filepath.Join(filepath.Dir(whole), name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.ReadFile(filepath.Join(image, "ovenbird.lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ovenbird.lock.json"), bytes.Replace(lock, []byte("trixie"), []byte("sid"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), binary, "verify", filepath.Join(dir, "disk.raw")).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(said), "ovenbird.lock.json was changed after the bake") {
		t.Errorf("verify of a changed lock: %v\n%s", err, said)
	}
}
