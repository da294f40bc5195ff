package boot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

// withScripts is user-data with shell scripts before the NodeConfig.
func (w *world) withScripts(scripts ...string) string {
	var b strings.Builder
	b.WriteString("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n")
	for _, script := range scripts {
		fmt.Fprintf(&b, "--B\nContent-Type: text/x-shellscript\n\n%s\n", script)
	}
	fmt.Fprintf(&b, "--B\nContent-Type: application/node.eks.aws\n\n%s\n--B--\n", w.userData(""))
	return b.String()
}

func TestScriptsRunInOrderAndOnceInTheLifeOfAnInstance(t *testing.T) {
	w := newWorld(t)
	const one, two, three = "#!/bin/sh\none", "#!/bin/sh\ntwo", "#!/bin/sh\nthree"
	w.metadata.Set("user-data", w.withScripts(two, one, one))
	w.commands.run = func(_ context.Context, _ string) (int, error) {
		w.units.mu.Lock()
		defer w.units.mu.Unlock()
		if slices.ContainsFunc(w.units.calls, func(call string) bool { return strings.Contains(call, "kubelet") }) {
			t.Error("kubelet runs before the scripts are done")
		}
		return 0, nil
	}
	status := w.mustJoin()
	if want := []string{two, one, one}; !slices.Equal(w.commands.ran, want) {
		t.Errorf("ran %q, want %q", w.commands.ran, want)
	}
	if want := []string{"AWS_ENDPOINT_URL_STS=https://aws.lab.internal/", "PATH=/usr/bin"}; !slices.Equal(w.commands.env, want) {
		t.Errorf("scripts get %q, want %q", w.commands.env, want)
	}
	if len(status.Scripts) != 3 || *status.Scripts[0].ExitStatus != 0 || status.Scripts[0].Name != "part 1 (text/x-shellscript)" || len(status.Warnings) != 0 {
		t.Errorf("got %+v", status)
	}
	for i, unit := range w.commands.units {
		if slices.Contains(w.commands.units[:i], unit) {
			t.Errorf("two scripts are the unit %s", unit)
		}
	}

	// At the next boot one more script is there, before the others.
	w.commands.ran, w.units.calls = nil, nil
	w.metadata.Set("user-data", w.withScripts(three, two, one, one))
	if status := w.mustJoin(); !slices.Equal(w.commands.ran, []string{three}) || len(status.Scripts) != 4 {
		t.Errorf("ran %q and has the status %+v", w.commands.ran, status.Scripts)
	}

	// An instance of an image of this one is another instance.
	w.commands.ran, w.units.calls = nil, nil
	w.metadata.Set("dynamic/instance-identity/document", `{"instanceId":"i-2","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2a","privateIp":"10.0.1.5"}`)
	if w.mustJoin(); len(w.commands.ran) != 4 {
		t.Errorf("ran %q", w.commands.ran)
	}
}

func TestAScriptThatFailsIsToldOfAndTheNodeJoins(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		err    error
		says   string
	}{
		"by its exit status":       {3, nil, "script part 1 (text/x-shellscript): exit status 3"},
		"as it cannot be started":  {0, systemd.ScriptFailure("exec format\nerror"), "script part 1 (text/x-shellscript): exec format error"},
		"as a signal has ended it": {0, systemd.ScriptFailure("signal: killed"), "script part 1 (text/x-shellscript): signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nfail", "#!/bin/sh\nnext"))
			w.commands.run = func(_ context.Context, text string) (int, error) {
				if strings.Contains(text, "fail") {
					return test.status, test.err
				}
				return 0, nil
			}
			status := w.mustJoin()
			if !slices.Equal(status.Warnings, []string{test.says}) || len(w.commands.ran) != 2 {
				t.Errorf("warnings are %q; ran %q", status.Warnings, w.commands.ran)
			}
			said := strings.Replace(strings.TrimPrefix(test.says, "script "), "): ", ") failed: ", 1)
			if strings.Count(w.console.String(), "] script "+said+"\n") != 1 || !strings.Contains(w.journal.String(), "script failed") {
				t.Errorf("the console tells:\n%s", w.console.String())
			}
			// The next boot tells of it too, and does not run it again.
			if status := w.mustJoin(); !slices.Equal(status.Warnings, []string{test.says}) || len(w.commands.ran) != 2 {
				t.Errorf("then warnings are %q; ran %q", status.Warnings, w.commands.ran)
			}
		})
	}
}

func TestAScriptThatEndsTheAgentDoesNotRunAgain(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nreboot"))
	ctx, kill := context.WithCancel(t.Context())
	w.commands.run = func(ctx context.Context, _ string) (int, error) {
		kill()
		return 0, ctx.Err()
	}
	if err := w.join(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first run ended with %v", err)
	}
	status := w.mustJoin()
	if want := []string{"script part 1 (text/x-shellscript): was interrupted and does not run again"}; len(w.commands.ran) != 1 || !slices.Equal(status.Warnings, want) {
		t.Errorf("ran %q; warnings are %q", w.commands.ran, status.Warnings)
	}
}

func TestAScriptThatOutlivesTheAgentIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nlong"))
	ctx, kill := context.WithCancel(t.Context())
	w.commands.run = func(ctx context.Context, _ string) (int, error) {
		kill()
		return 0, ctx.Err()
	}
	if err := w.join(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first run ended with %v", err)
	}
	w.commands.await = func() (int, bool, error) { return 4, true, nil }
	status := w.mustJoin()
	if want := []string{"script part 1 (text/x-shellscript): exit status 4"}; len(w.commands.ran) != 1 || !slices.Equal(status.Warnings, want) {
		t.Errorf("ran %q; warnings are %q", w.commands.ran, status.Warnings)
	}
	// Its marker has the result, so nobody asks again.
	w.commands.await = func() (int, bool, error) { t.Error("asked again"); return 0, false, nil }
	w.mustJoin()
}

func TestAScriptThatSystemdDidNotStartRunsAtTheNextTry(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.withScripts("#!/bin/sh\none"))
	w.commands.run = func(context.Context, string) (int, error) {
		if len(w.commands.ran) == 1 {
			return 0, errors.New("connect to systemd: refused")
		}
		return 0, nil
	}
	if status := w.mustJoin(); len(w.commands.ran) != 2 || len(status.Warnings) != 0 {
		t.Errorf("ran %q; warnings are %q", w.commands.ran, status.Warnings)
	}
}
