package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPeopleAndPackerCallTheSameBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "packer-plugin-ovenbird")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	for _, test := range []struct {
		args   string
		status int
		want   string // in what it says
	}{
		{"describe", 0, `"builders":["image"]`},
		{"describe", 0, `"datasources":["release"]`},
		{"start", 1, "start takes two arguments"},
		{"version", 0, "packer-plugin-ovenbird 0.0.0-dev"},
		{"version --output json", 0, `"release": "0.0.0-dev"`},
		{"help", 0, "packer build TEMPLATE"},
		{"", 0, "packer build TEMPLATE"},
		{"completion bash", 0, "bash completion"},
		{"verify", 2, "accepts 1 arg(s)"},
		{"verify /no/such/disk.raw", 1, "open the disk: open /no/such/disk.raw: no such file"},
		{"verify --help", 0, "--output json disk.raw"},
		{"bake", 2, `unknown command "bake"`},
	} {
		out, err := exec.Command(binary, strings.Fields(test.args)...).CombinedOutput()
		status := 0
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != test.status || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: exit status %d, want %d with %q in\n%s", test.args, status, test.status, test.want, out)
		}
	}
}
