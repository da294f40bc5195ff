// Package namespacetest runs the tests of a package inside a network namespace of their
// own.
package namespacetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
)

// inside tells the test binary that it is the one inside.
const inside = "OVENBIRD_TEST_NAMESPACE"

// Main stands in for m.Run. It starts the test binary once more in a fresh namespace, so
// that every thread of it is inside, and removes the namespace afterwards. Without root
// it runs the tests where it is; those that need the namespace call Need.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		return m.Run()
	}
	name := fmt.Sprintf("ovenbird-test-%d", os.Getpid())
	if err := namespace.Create(name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = namespace.Delete(name) }()
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx,gosec // the test binary has its own timeout
	cmd.Env = append(os.Environ(), inside+"="+name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = namespace.Do(name, cmd.Run)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Need skips the test unless it runs inside a namespace of its own.
func Need(t *testing.T) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root to make network namespaces")
	}
}
