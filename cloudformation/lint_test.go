package cloudformation_test

import (
	"os"
	"os/exec"
	"testing"
)

func TestCfnLintHasNothingToSay(t *testing.T) {
	if _, err := exec.LookPath("cfn-lint"); err != nil && os.Getenv("CI") == "" {
		t.Skip("there is no cfn-lint on PATH; make lint installs one")
	}
	runs(t, "../scripts/cfn-lint", templates(t)...)
}

func TestTemplatesAreFormatted(t *testing.T) {
	runs(t, "../scripts/format-templates", "--check")
}

// runs wants a program to end well and to say nothing.
func runs(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
}
