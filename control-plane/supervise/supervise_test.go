package supervise

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/component"
)

func TestAComponentRunsOnItsOwnAndWritesToItsLog(t *testing.T) {
	b := newBench(t, quick())
	c := b.component()
	c.DataDir = filepath.Join(b.dir, "data")
	c.Files = []component.File{{Path: filepath.Join(b.dir, "config"), Mode: 0o600, Content: []byte("a: b\n")}}
	b.apply(c)
	state := b.ready()

	if group, err := syscall.Getpgid(state.PID); err != nil || group != state.PID {
		t.Errorf("process group %d, %v, want its own", group, err)
	}
	if !strings.Contains(b.log(), "helper says hello") {
		t.Errorf("log: %q", b.log())
	}
	for name, want := range map[string]os.FileMode{"config": 0o600, "data": os.ModeDir | 0o700, "run/helper.log": 0o600, "run/helper.pid": 0o600} {
		if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", name, info.Mode(), err, want)
		}
	}
	environ, err := os.ReadFile("/proc/" + itoa(state.PID) + "/environ")
	if err != nil || strings.Contains(string(environ), "HOME=") {
		t.Errorf("the component sees the service's environment: %q, %v", environ, err)
	}
}

func TestAKilledComponentIsStartedAgain(t *testing.T) {
	b := newBench(t, quick())
	b.apply(b.component())
	first := b.ready()
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("ended", func(s State) bool { return s.Restarts == 1 && strings.Contains(s.Message, "killed") })
	second := b.until("came back", func(s State) bool { return s.Phase == Ready && s.PID != first.PID })
	if second.Restarts != 1 || second.Message != "" {
		t.Errorf("state %+v", second)
	}
}

func TestAComponentThatRefusesToRunSaysWhy(t *testing.T) {
	b := newBench(t, quick())
	b.write("refuse", "")
	b.apply(b.component())
	state := b.until("was tried again", func(s State) bool { return s.Restarts >= 3 && s.Phase == Backoff })
	if want := "exit status 3: helper refuses to run"; state.Message != want {
		t.Errorf("message %q, want %q", state.Message, want)
	}
	b.remove("refuse")
	b.ready()
}

func TestAMissingProgramIsTriedAgain(t *testing.T) {
	b := newBench(t, quick())
	c := b.component()
	real := c.Path
	c.Path = filepath.Join(b.dir, "program")
	b.apply(c)
	b.until("failed", func(s State) bool { return s.Restarts >= 2 && strings.Contains(s.Message, "no such file") })
	if err := os.Symlink(real, c.Path); err != nil {
		t.Fatal(err)
	}
	b.ready()
}

func TestAComponentIsReadyOnlyWhileItsProbePasses(t *testing.T) {
	timing := quick()
	timing.Stuck = time.Hour
	b := newBench(t, timing)
	b.write("unready", "")
	b.apply(b.component())
	b.until("explained itself", func(s State) bool {
		return s.Phase == Starting && strings.HasSuffix(s.Message, "503 Service Unavailable: unready")
	})
	b.remove("unready")
	first := b.ready()
	b.write("unready", "")
	b.write("dead", "")
	b.until("became unready", func(s State) bool { return s.Phase == Unready })
	b.remove("unready")
	if again := b.ready(); again.PID != first.PID {
		t.Error("a component that was unready for a moment was replaced")
	}
}

func TestAStuckComponentIsReplaced(t *testing.T) {
	b := newBench(t, quick())
	b.apply(b.component())
	first := b.ready()
	b.write("dead", "")
	b.write("unready", "")
	b.until("was replaced", func(s State) bool { return s.Restarts == 1 && strings.Contains(s.Message, "stuck") })
	if alive(first.PID) {
		t.Error("the stuck process is still there")
	}
	b.remove("unready")
	b.ready()
}

func TestAComponentThatNeverBecomesReadyIsStartedAgain(t *testing.T) {
	b := newBench(t, quick())
	b.write("unready", "")
	c := b.component()
	c.Probe.StartTimeout = 100 * time.Millisecond
	b.apply(c)
	b.until("was given up", func(s State) bool {
		return s.Restarts >= 1 && strings.Contains(s.Message, "was not ready within 100ms")
	})
}

func TestAComponentWaitsForWhatItDependsOn(t *testing.T) {
	b := newBench(t, quick())
	b.write("unready", "")
	second := b.component()
	second.Name, second.DependsOn = "second", []string{"helper"}
	second.Args = []string{"-dir", b.dir, "-listen", "127.0.0.1:0"}
	b.apply(b.component(), second)
	b.until("started", func(s State) bool { return s.Phase == Starting && s.Message != "" })
	for _, state := range b.States() {
		if state.Name == "second" && state.Phase != Waiting {
			t.Errorf("the second did not wait: %+v", state)
		}
	}
	b.remove("unready")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		changed := b.Changed()
		if slices.ContainsFunc(b.States(), func(s State) bool { return s.Name == "second" && s.PID != 0 }) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the second never started: %+v", b.States())
		}
	}
}

func TestDependenciesMustStandBefore(t *testing.T) {
	b := newBench(t, quick())
	first, second := b.component(), b.component()
	second.Name = "second"
	first.DependsOn = []string{"second"}
	for name, list := range map[string][]component.Component{
		"an unknown one": {first}, "a later one": {first, second}, "a double": {second, second},
	} {
		if err := b.Apply(list); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAChangedDescriptionReplacesTheProcessAndAnEqualOneDoesNot(t *testing.T) {
	b := newBench(t, quick())
	b.apply(b.component())
	first := b.ready()
	b.apply(b.component())
	if again := b.ready(); again.PID != first.PID {
		t.Error("the same description replaced the process")
	}
	changed := b.component()
	changed.Args = append(changed.Args, "-color", "blue")
	b.apply(changed)
	if second := b.ready(); second.PID == first.PID || alive(first.PID) {
		t.Errorf("the first process, %d, is still used or still there", first.PID)
	}
}

func TestAComponentThatIsNoLongerWantedStops(t *testing.T) {
	b := newBench(t, quick())
	b.apply(b.component())
	first := b.ready()
	b.apply()
	if len(b.States()) != 0 {
		t.Errorf("states %+v", b.States())
	}
	b.apply(b.component())
	if second := b.ready(); second.PID == first.PID {
		t.Error("the component was wanted again before it had stopped, and never stopped")
	}
}

func TestAStartedProcessIsKnownByItsMarker(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sleeper")
	for n := range 300 { // in about one of 70 starts the kernel is late
		cmd := exec.Command("/bin/sleep", "60")
		cmd.Env = []string{marker + "=" + name}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err, found := awaitMarker(cmd.Process.Pid), markerOf(cmd.Process.Pid)
		if err := errors.Join(err, cmd.Process.Kill()); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if found != name {
			t.Fatalf("start %d has the marker %q", n, found)
		}
	}
}

func TestAProcessThatEndsAtOnceIsStartedLikeOthers(t *testing.T) {
	dir := t.TempDir()
	for n := range 300 {
		p, err := launch(component.Component{Name: "brief", Path: "/bin/false"}, dir, "digest")
		if err != nil {
			t.Fatalf("start %d: %v", n, err)
		}
		if <-p.exited; p.ending() != "exit status 1" {
			t.Fatalf("start %d: %s", n, p.ending())
		}
	}
}

func TestStopEndsEvenADeafProcess(t *testing.T) {
	timing := quick()
	timing.Grace = 20 * time.Millisecond
	b := newBench(t, timing)
	b.write("deaf", "")
	b.apply(b.component())
	first := b.ready()
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive(first.PID) || len(b.running()) != 0 {
		t.Errorf("still there: %v", b.running())
	}
	if _, err := os.Stat(filepath.Join(b.dir, "run", "helper.pid")); !os.IsNotExist(err) {
		t.Errorf("the record is still there: %v", err)
	}
	if err := b.Apply(nil); err == nil {
		t.Error("a stopped supervisor took up work again")
	}
}

func TestProcessesOutliveAKilledServiceAndAreAdopted(t *testing.T) {
	b := newBench(t, quick())
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	service := exec.Command(program)
	service.Env = append(os.Environ(), "SERVICE_DIR="+b.dir)
	output, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "<nil>\n" {
		t.Fatalf("the service said %q, %v", line, err)
	}
	if err := service.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = service.Wait()
	before := b.running()
	if len(before) != 1 {
		t.Fatalf("running after the kill: %v, want one", before)
	}

	b.apply(b.component())
	if state := b.ready(); state.PID != before[0] {
		t.Errorf("process %d instead of %d", state.PID, before[0])
	}
	// Its end is noticed although it is nobody's child here.
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("came back", func(s State) bool { return s.Phase == Ready && s.PID != before[0] })
}

func TestASecondSupervisorAdoptsOnlyWhatRunsAsWanted(t *testing.T) {
	tests := map[string]struct {
		change func(*bench, *component.Component)
		same   bool
	}{
		"the same description":     {func(*bench, *component.Component) {}, true},
		"other arguments":          {func(_ *bench, c *component.Component) { c.Args = append(c.Args, "-color", "red") }, false},
		"another file":             {func(b *bench, c *component.Component) { c.Files = []component.File{{Path: b.dir + "/x", Mode: 0o600}} }, false},
		"a lost record":            {func(b *bench, _ *component.Component) { b.remove("run/helper.pid") }, false},
		"a record of another boot": {func(b *bench, _ *component.Component) { b.write("run/helper.pid", `{"pid":1}`) }, false},
		"a damaged record":         {func(b *bench, _ *component.Component) { b.write("run/helper.pid", `{"pid":`) }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, quick())
			b.apply(b.component())
			first := b.ready()
			b.Detach()
			if !alive(first.PID) {
				t.Fatal("Detach stopped the process")
			}
			c := b.component()
			test.change(b, &c)
			b.Supervisor = New(filepath.Join(b.dir, "run"), quick(), zap.NewNop())
			b.apply(c)
			second := b.ready()
			if same := second.PID == first.PID; same != test.same {
				t.Errorf("same process: %v, want %v", same, test.same)
			}
			if running := b.running(); len(running) != 1 {
				t.Errorf("%d processes run: %v", len(running), running)
			}
		})
	}
}

func TestAProcessThatGotTheNumberOfAnotherIsLeftAlone(t *testing.T) {
	innocent := exec.Command("sleep", "60")
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = innocent.Process.Kill()
		_ = innocent.Wait()
	}()
	if err := stopMarked(innocent.Process.Pid, "/run/helper", 0); err != nil {
		t.Fatal(err)
	}
	if !alive(innocent.Process.Pid) {
		t.Error("it was stopped")
	}
}

func TestAwaitSaysWhatIsMissing(t *testing.T) {
	b := newBench(t, quick())
	b.write("refuse", "")
	b.apply(b.component())
	b.until("ended", func(s State) bool { return s.Restarts > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Await(ctx, "helper", "other")
	if err == nil || !strings.Contains(err.Error(), "helper is ") || !strings.Contains(err.Error(), "other is not described") {
		t.Errorf("err = %v", err)
	}
}
