package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Journal returns the last lines, at most that many, that unit has written since the
// machine started.
func Journal(ctx context.Context, unit string, lines int) ([]string, error) {
	// The journal is compressed files that only its own library reads, which needs cgo.
	output, err := exec.CommandContext(ctx, "journalctl", "--boot", "--unit", unit, "--lines", strconv.Itoa(lines), //nolint:gosec // no shell, and the unit is ours
		"--output", "cat", "--no-pager", "--quiet").Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("read the journal of %s: %w", unit, context.Cause(ctx))
	case errors.As(err, &exit):
		return nil, fmt.Errorf("read the journal of %s: %w: %s", unit, err, bytes.TrimSpace(exit.Stderr))
	case err != nil:
		return nil, fmt.Errorf("read the journal of %s: %w", unit, err)
	}
	return strings.FieldsFunc(string(output), func(r rune) bool { return r == '\n' }), nil
}
