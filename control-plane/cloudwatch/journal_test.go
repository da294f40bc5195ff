package cloudwatch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// journalctl is a program that answers as the real one does, and writes down what it was asked.
func journalctl(t *testing.T, script string) (program, asked string) {
	t.Helper()
	program, asked = filepath.Join(t.TempDir(), "journalctl"), filepath.Join(t.TempDir(), "asked")
	text := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\n%s\n", asked, script)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil { //nolint:gosec // it is to run
		t.Fatal(err)
	}
	return program, asked
}

func TestTheJournalIsReadOnFromItsCursor(t *testing.T) {
	// As journalctl of systemd 252 writes them.
	program, asked := journalctl(t, `case "$*" in
*c2*) ;;
*) cat <<'J'
{"__CURSOR":"s=1;i=c1","__REALTIME_TIMESTAMP":"1795822464123456","__MONOTONIC_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":"ready \"now\""}
{"__CURSOR":"s=1;i=c2","__REALTIME_TIMESTAMP":"1795822465000000","__MONOTONIC_TIMESTAMP":"2","_BOOT_ID":"b","MESSAGE":[104,105,255]}
J
esac`)
	j := Journal{Unit: "ovenbird", Program: program}
	lines, next, err := j.Read(t.Context(), Position{})
	if err != nil || len(lines) != 2 || lines[0].Text != `ready "now"` || lines[1].Text != "hi\xff" || lines[0].Time.UnixMicro() != 1795822464123456 {
		t.Fatalf("got %q, %v", lines, err)
	}
	if lines, again, err := j.Read(t.Context(), next); err != nil || len(lines) > 0 || again != next {
		t.Errorf("then %q, %v, %v", lines, again, err)
	}
	calls, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	const common = "--unit ovenbird --output json --output-fields MESSAGE --all --quiet --no-pager "
	if got, want := strings.Split(strings.TrimSpace(string(calls)), "\n"), []string{common + "--boot", common + "--after-cursor s=1;i=c2"}; !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestMuchOfTheJournalIsReadInParts(t *testing.T) {
	program, _ := journalctl(t, `i=0; while :; do i=$((i+1)); echo "{\"__CURSOR\":\"$i\",\"__REALTIME_TIMESTAMP\":\"$i\",\"MESSAGE\":\"m\"}"; done`)
	lines, next, err := Journal{Unit: "u", Program: program}.Read(t.Context(), Position{})
	if err != nil || len(lines) != mostEntries || next.Cursor != fmt.Sprint(mostEntries) {
		t.Errorf("%d lines, up to %q, %v", len(lines), next.Cursor, err)
	}
}

func TestAJournalThatCannotBeReadLosesNothing(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"it fails":            {"echo Failed to seek >&2; exit 1", "read the journal of u: exit status 1 Failed to seek"},
		"it is no JSON":       {"echo '-- No entries --'", "decode an entry"},
		"it has no time":      {`echo '{"__CURSOR":"c","MESSAGE":"m"}'`, "__REALTIME_TIMESTAMP"},
		"its text is no text": {`echo '{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1","MESSAGE":{}}'`, "MESSAGE"},
	} {
		t.Run(name, func(t *testing.T) {
			program, _ := journalctl(t, test.script)
			before := Position{Cursor: "before"}
			lines, next, err := Journal{Unit: "u", Program: program}.Read(t.Context(), before)
			if err == nil || !strings.Contains(err.Error(), test.want) || len(lines) > 0 || next != before {
				t.Errorf("got %q, %v, %v", lines, next, err)
			}
		})
	}
	if _, _, err := (Journal{Unit: "u", Program: "/nowhere/journalctl"}).Read(t.Context(), Position{}); err == nil {
		t.Error("a program that is not there was run")
	}
}
