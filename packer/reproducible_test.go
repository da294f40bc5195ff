package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// wholeNode bakes all that a node has, and what a provisioner may do besides: a package
// that stays, one that goes again, and a user.
const wholeNode = `
packer {
  required_plugins {
    ovenbird = { version = ">= 0.1.0", source = "github.com/ovenbird-dev/ovenbird" }
  }
}
variable "output" { type = string }
variable "lock_file" {
  type    = string
  default = ""
}
source "ovenbird-image" "test" {
  output_directory = var.output
  lock_file        = var.lock_file
  cache_directory  = %[1]q
  disk_size        = "3GiB"
}
build {
  sources = ["source.ovenbird-image.test"]
  provisioner "ovenbird-node" {
    kubernetes_version = %[2]q
    components_dir     = %[3]q
    agent_path         = %[4]q
  }
  provisioner "shell" {
    inline = [
      "apt-get update",
      "apt-get install -y --no-install-recommends tree bc",
      "apt-get purge -y bc",
      "apt-get clean",
      "useradd --system --shell /usr/sbin/nologin baker",
      "date >/dev/null",
    ]
  }
}
`

// cacheDirectory is the user's, so that tests find the packages and the tools of others.
func cacheDirectory(t *testing.T) string {
	t.Helper()
	if cache := os.Getenv("OVENBIRD_CACHE"); cache != "" {
		return cache
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(user, "ovenbird")
}

func TestABakeFromItsLockAloneIsTheSameToTheBit(t *testing.T) {
	if testing.Short() {
		t.Skip("bakes two images")
	}
	if os.Geteuid() != 0 {
		t.Skip("a bake needs root")
	}
	components, err := filepath.Abs("../dist/components")
	if err != nil {
		t.Fatal(err)
	}
	versions, _ := filepath.Glob(filepath.Join(components, "kubernetes/*"))
	if len(versions) == 0 {
		t.Skip("there is no Kubernetes; run make components")
	}
	program, env := packer(t), install(t)
	dir := t.TempDir()
	agent := filepath.Join(dir, "ovenbird-agent")
	build := exec.Command("go", "build", "-o", agent, "../agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	file, out := filepath.Join(dir, "test.pkr.hcl"), filepath.Join(dir, "out")
	template := fmt.Appendf(nil, wholeNode, cacheDirectory(t), filepath.Base(versions[0]), components, agent)
	if err := os.WriteFile(file, template, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "build", "-var", "output="+out, file)
	cmd.Env = env
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packer build: %v\n%s", err, said)
	}
	lock, err := os.ReadFile(filepath.Join(out, "ovenbird.lock.json"))
	if err != nil || !bytes.Contains(lock, []byte(`"name": "tree"`)) || !bytes.Contains(lock, []byte(`"removed": [`+"\n"+`    "bc"`)) {
		t.Errorf("the lock (%v) does not know what the provisioner has done", err)
	}
	sameElsewhere(t, program, env, file, out)
}

// sameElsewhere bakes again from the lock that lies in out, under circumstances that must
// not matter, and compares every file that comes out: a file system that lists directories
// in another order, another path, umask, time zone and language, a date in another
// year, and no network.
func sameElsewhere(t *testing.T, program string, env []string, file, out string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	real, err := exec.LookPath("mmdebstrap")
	if err != nil || len(found) == 0 {
		t.Skip("there is no mmdebstrap or no libfaketime; run scripts/setup")
	}
	bin := t.TempDir()
	// The library goes into the tree for as long as packages are installed there. What it
	// shares goes by process ids, which begin anew with each tree.
	wrapper := fmt.Sprintf(`#!/bin/sh
rm -f /dev/shm/*faketime*
export LD_PRELOAD=%[1]s FAKETIME=+400d FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
exec %[2]s --setup-hook='mkdir -p "$1%[3]s" && cp %[1]s "$1%[3]s"' --customize-hook='rm -r "$1%[3]s"' "$@"
`, found[0], real, filepath.Dir(found[0]))
	if err := os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `set -e
mount -t tmpfs -o size=8g,mode=700 none "$1"
mount -t tmpfs none /dev/shm # libfaketime's
umask 077
"$2" build -var output="$1/deep/er" -var lock_file="$3/ovenbird.lock.json" "$4" >&2
cd "$1/deep/er"
for name in *; do cmp "$3/$name" "$name" >&2 || :; done
sha256sum *`
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	elsewhere := filepath.Join(t.TempDir(), "another-place")
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c", script, "sh", elsewhere, program, out, file)
	cmd.Env = slices.Concat(env, []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "TZ=Pacific/Kiritimati", "LANG=de_DE.UTF-8", "LC_ALL=C",
		"http_proxy=http://127.0.0.1:9", "https_proxy=http://127.0.0.1:9", "SOURCE_DATE_EPOCH=1",
	})
	var got, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &got, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("bake again: %v\n%s", err, said.String())
	}
	sums := exec.Command("sh", "-c", "sha256sum *")
	sums.Dir = out
	want, err := sums.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) || !strings.Contains(got.String(), "disk.raw") {
		t.Errorf("the second bake made\n%s\nthe first\n%s\n%s", got.String(), want, said.String())
	}
}
