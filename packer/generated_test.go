package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// contents reads files by path below dir.
func contents(t *testing.T, dir string, match func(path string) bool) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !match(path) {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func compare(t *testing.T, got, want map[string][]byte, remedy string) {
	t.Helper()
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s is not up to date: %s", name, remedy)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there: %s", name, remedy)
		}
	}
}

func TestTheDocumentationIsRendered(t *testing.T) {
	out := t.TempDir()
	if said, err := exec.Command("../scripts/plugin-docs", out).CombinedOutput(); err != nil {
		t.Fatalf("scripts/plugin-docs: %v\n%s", err, said)
	}
	all := func(string) bool { return true }
	compare(t, contents(t, ".web-docs", all), contents(t, out, all), "run scripts/plugin-docs")
}

func TestTheFieldSpecificationsAreGenerated(t *testing.T) {
	specification := func(path string) bool {
		ok, _ := filepath.Match("*.hcl2spec.go", filepath.Base(path))
		return ok
	}
	before := contents(t, ".", specification)
	if said, err := exec.Command("go", "generate", "./...").CombinedOutput(); err != nil {
		t.Fatalf("go generate: %v\n%s", err, said)
	}
	compare(t, before, contents(t, ".", specification), "go generate ./packer/... has just rewritten it")
}

func TestThePluginIsOneForPacker(t *testing.T) {
	dir := t.TempDir()
	for _, build := range [][]string{
		{"build", "-o", filepath.Join(dir, "packer-plugin-ovenbird"), "."},
		{"build", "-modfile=packer-sdc.mod", "-o", filepath.Join(dir, "packer-sdc"), "github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc"},
	} {
		if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	for _, gob := range []string{"0", "1"} {
		check := exec.Command(filepath.Join(dir, "packer-sdc"), "plugin-check", "packer-plugin-ovenbird")
		check.Dir, check.Env = dir, append(os.Environ(), "PACKER_FORCE_GOB="+gob)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("packer-sdc plugin-check, gob %s: %v\n%s", gob, err, out)
		}
	}
}
