package systemd_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

// journalctl is a program of that name for the test.
func journalctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func TestTheJournalIsReadByTheLine(t *testing.T) {
	journalctl(t, `echo "$*"; echo; echo "the last"`)
	lines, err := systemd.Journal(t.Context(), "kubelet.service", 5)
	want := []string{"--boot --unit kubelet.service --lines 5 --output cat --no-pager --quiet", "the last"}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("got %q, %v", lines, err)
	}
}

func TestAJournalThatCannotBeReadSaysWhy(t *testing.T) {
	journalctl(t, `echo "No journal files were found." >&2; exit 1`)
	_, err := systemd.Journal(t.Context(), "kubelet.service", 5)
	if err == nil || !strings.HasPrefix(err.Error(), "read the journal of kubelet.service: ") || !strings.Contains(err.Error(), "No journal files") {
		t.Errorf("got %v", err)
	}
}
