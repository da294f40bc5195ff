package operator_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// changing is what is not the same in every run, and what stands in its place.
var changing = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "00000000-0000-0000-0000-000000000000"},
	{regexp.MustCompile(`20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})`), "TIME"},
	{regexp.MustCompile(`"certificateAuthority": "[^"]*"`), `"certificateAuthority": "PEM"`},
}

const prompt = "$ ovenbird "

// The session is a list of commands, each with what it prints or the error that it ends with.
func TestCommandsPrintWhatTheSessionShows(t *testing.T) {
	const golden = "testdata/session.txt"
	reconcile(t, service(t))
	content, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	for _, want := range strings.SplitAfter(string(content), "\n\n") {
		line, _, _ := strings.Cut(want, "\n")
		command, ok := strings.CutPrefix(line, prompt)
		if !ok {
			continue
		}
		got := prompt + command + "\n" + run(t, command) + "\n"
		if got != want && !*update {
			t.Errorf("%s printed\n%swant\n%s", golden, got, want)
		}
		printed.WriteString(got)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(printed.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, command string) string {
	t.Helper()
	out, _, err := ovenbird(t, strings.Fields(command)...)
	if err != nil {
		out += "ovenbird: " + err.Error() + "\n"
	}
	for _, c := range changing {
		out = c.pattern.ReplaceAllString(out, c.instead)
	}
	return out
}

// reconcile makes clusters ACTIVE and ends their updates, with reasons if they are to fail,
// until the test ends.
func reconcile(t *testing.T, r *registry.Registry, reasons ...registry.UpdateError) {
	t.Helper()
	state, done := t.TempDir(), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); <-done })
	names := r.Watch(ctx)
	go func() {
		defer close(done)
		for name := range names {
			c, err := r.Get(ctx, name)
			switch {
			case err != nil:
			case c.UpdateID != "":
				err = r.FinishUpdate(ctx, name, c.UpdateID, reasons...)
			case c.Status.Phase == registry.PhaseCreating:
				err = tryActivate(r, state)
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
}

func TestAnUpdateThatIsNotDoneSaysHowToGoOn(t *testing.T) {
	r := service(t)
	createDemo(t)
	activate(t, r, t.TempDir())
	_, progress, err := ovenbird(t, "cluster", "update-config", "demo", "--logging", "audit", "--wait", "--timeout", "1s")
	if err == nil || !strings.Contains(err.Error(), "still InProgress after 1s: see `ovenbird cluster updates describe demo --update-id ") {
		t.Errorf("a wait that is too short: %v", err)
	}
	if !strings.Contains(progress, " of cluster demo is InProgress, ") {
		t.Errorf("progress: %q", progress)
	}
	_, _, err = ovenbird(t, "cluster", "update-config", "demo", "--deletion-protection")
	if err == nil || !strings.Contains(err.Error(), " in progress: wait with `ovenbird cluster wait demo`") {
		t.Errorf("while another update is in progress: %v", err)
	}
}

func TestAnUpdateThatFailsIsAnError(t *testing.T) {
	r := service(t)
	createDemo(t)
	activate(t, r, t.TempDir())
	reconcile(t, r, registry.UpdateError{Code: "ConfigurationConflict", Message: "the API server did not start"})
	_, _, err := ovenbird(t, "cluster", "update-config", "demo", "--logging", "audit", "--wait")
	if err == nil || !strings.Contains(err.Error(), " is Failed: ConfigurationConflict: the API server did not start") {
		t.Errorf("got %v", err)
	}
	var updates []struct{ ID string }
	if err := json.Unmarshal([]byte(must(t, "cluster", "updates", "list", "demo", "-o", "json")), &updates); err != nil || len(updates) != 1 {
		t.Fatalf("updates: %v, %v", updates, err)
	}
	out := must(t, "cluster", "updates", "describe", "demo", "--update-id", updates[0].ID)
	for _, want := range []string{"status     Failed\n", "error      ConfigurationConflict: the API server did not start\n", "parameter  ClusterLogging={"} {
		if !strings.Contains(out, want) {
			t.Errorf("describe printed %q, want %q", out, want)
		}
	}
}

func TestAnAccessEntryIsTaggedByItsARN(t *testing.T) {
	service(t)
	createDemo(t)
	var entry struct {
		ARN string `json:"accessEntryArn"`
	}
	if err := json.Unmarshal([]byte(must(t, "access-entry", "create", "demo", "--principal-arn", nodeRole, "-o", "json")), &entry); err != nil {
		t.Fatal(err)
	}
	must(t, "tag", entry.ARN, "team=bakers")
	if out := must(t, "access-entry", "describe", "demo", "--principal-arn", nodeRole); !strings.Contains(out, "tag        team=bakers\n") {
		t.Errorf("describe printed %q", out)
	}
}
