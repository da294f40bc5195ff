package boot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
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
	w.commands.run = func(_ context.Context, _ string, output io.Writer) (int, error) {
		w.units.mu.Lock()
		defer w.units.mu.Unlock()
		if slices.ContainsFunc(w.units.calls, func(call string) bool { return strings.Contains(call, "kubelet") }) {
			t.Error("kubelet runs before the scripts are done")
		}
		io.WriteString(output, "half a li")
		io.WriteString(output, "ne\nthe last")
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
	for _, line := range []string{`"line":"half a line"`, `"line":"the last"`} {
		if strings.Count(w.journal.String(), line) != 3 {
			t.Errorf("the journal has no three times %s:\n%s", line, w.journal.String())
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
		"as it cannot be started":  {0, errors.New("exec format\nerror"), "script part 1 (text/x-shellscript): exec format error"},
		"as a signal has ended it": {0, errors.New("signal: killed"), "script part 1 (text/x-shellscript): signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nfail", "#!/bin/sh\nnext"))
			w.commands.run = func(_ context.Context, text string, _ io.Writer) (int, error) {
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

func TestAScriptHasTenMinutes(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nlong"))
	w.commands.run = func(ctx context.Context, _ string, _ io.Writer) (int, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 10*time.Minute || time.Until(deadline) < 9*time.Minute {
			t.Errorf("the deadline is %s", deadline)
		}
		return 0, nil
	}
	if err := w.join(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAScriptThatEndsTheAgentDoesNotRunAgain(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", w.withScripts("#!/bin/sh\nreboot"))
	ctx, kill := context.WithCancel(t.Context())
	w.commands.run = func(ctx context.Context, _ string, _ io.Writer) (int, error) {
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

func TestSystemCommandsRunsAProgramToItsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		status int
		output string
		err    string
	}{
		"one that succeeds":                  {"#!/bin/sh\necho $A; echo err >&2; pwd", 0, "b\nerr\n/\n", ""},
		"one that fails":                     {"#!/bin/sh\nexit 7", 7, "", ""},
		"one that a signal ends":             {"#!/bin/sh\nkill -TERM $$", 0, "", "signal: terminated"},
		"one that leaves something running":  {"#!/bin/sh\nsleep 30 & exit 0", 0, "", ""},
		"one that takes too long":            {"#!/bin/sh\nsleep 30; sleep 30", 0, "", "signal: killed"},
		"one without an interpreter":         {"echo", 0, "", "exec format error"},
		"one whose interpreter is not there": {"#!/nowhere", 0, "", "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(path, []byte(test.script), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			var output bytes.Buffer
			status, err := boot.SystemCommands{}.Run(ctx, path, []string{"A=b", "PATH=/usr/bin:/bin"}, &output)
			if status != test.status || output.String() != test.output || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %d, %q, %v", status, output.String(), err)
			}
		})
	}
}
