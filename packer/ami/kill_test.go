package ami

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
)

// asUploader makes the test's binary a process that publishes the disk it names.
const asUploader = "OVENBIRD_TEST_DISK"

// atOnce is how many blocks that process sends at once.
const atOnce = 4

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // packer.BasicUi says everything twice
	disk := os.Getenv(asUploader)
	if disk == "" {
		os.Exit(m.Run())
	}
	tr := &trial{ui: newListener(os.Stderr), disk: disk, state: os.Getenv("OVENBIRD_TEST_STATE"), more: map[string]any{"max_concurrency": atOnce, "ssm_parameter": parameter}}
	artifact, err := tr.run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(artifact.State("image_id"))
}

// uploader is that process, about to start.
func (tr *trial) uploader(t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asUploader+"="+tr.disk, "OVENBIRD_TEST_STATE="+tr.state)
	cmd.Stderr = t.Output()
	return cmd
}

// killAfter runs the process and kills it when an action was called n times.
func (tr *trial) killAfter(t *testing.T, action string, n int) {
	t.Helper()
	cmd := tr.uploader(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for tr.aws.Calls(action) < n {
		select {
		case err := <-exited:
			t.Fatalf("the process ended after %d calls of %s: %v", tr.aws.Calls(action), action, err)
		case <-time.After(2 * time.Millisecond):
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
}

func TestAKilledUploadGoesOnWhereItWas(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	const size = 200
	writeDisk(t, tr.disk, size, upTo(size)...)
	// So that the kill comes in the middle.
	tr.aws.Fail(t, fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Delay, Wait: 10 * time.Millisecond})
	tr.killAfter(t, "PutSnapshotBlock", 50)
	tr.killAfter(t, "PutSnapshotBlock", 120)
	tr.aws.Faults.Clear()
	out, err := tr.uploader(t).Output()
	if err != nil {
		t.Fatalf("the process that goes on: %v", err)
	}
	id := strings.TrimSpace(string(out))
	tr.holds(t, id)
	left := tr.aws.Left()
	if len(left) != 2 {
		t.Fatalf("there are %v, want one image and its snapshot", left)
	}
	twice := 0
	for _, snapshot := range left {
		for _, n := range tr.aws.Puts(snapshot) {
			twice += n - 1
		}
	}
	// Those that were under way when a process was killed: EBS may have them or not.
	if twice > 2*atOnce {
		t.Errorf("%d blocks were sent again after two kills, want no more than the %d that were under way", twice, 2*atOnce)
	}
	if calls := tr.aws.Calls("PutSnapshotBlock"); calls > size+2*atOnce {
		t.Errorf("%d blocks were put for a disk of %d", calls, size)
	}
}

func TestABuildThatIsKilledAtAnyCallIsFinishedByTheNext(t *testing.T) {
	for _, at := range []struct {
		action string
		call   int
	}{
		{"StartSnapshot", 1}, {"CompleteSnapshot", 1}, {"RegisterImage", 1},
		{"CreateTags", 1}, {"CreateTags", 2}, // the snapshot's, then the image's
		{"PutParameter", 1},
	} {
		for _, effect := range []fault.Effect{fault.Delay, fault.Fail} { // carried out, or not
			t.Run(fmt.Sprint(at.action, at.call, " ", effect), func(t *testing.T) {
				tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
				f := fault.Fault{Action: at.action, Effect: effect, After: at.call - 1, Count: 4}
				if effect == fault.Delay {
					f.Wait = 50 * time.Millisecond
				}
				tr.aws.Fail(t, f)
				tr.killAfter(t, at.action, at.call)
				tr.aws.Faults.Clear()
				starts := tr.aws.Calls("StartSnapshot")
				out, err := tr.uploader(t).Output()
				if err != nil {
					t.Fatalf("the process that goes on: %v", err)
				}
				id := strings.TrimSpace(string(out))
				tr.holds(t, id)
				if got := tr.value(t, tr.aws.Regions[0]); got != id {
					t.Errorf("the parameter is %q, want %s", got, id)
				}
				if at.action != "StartSnapshot" && tr.aws.Calls("StartSnapshot") != starts {
					t.Error("the disk was uploaded again")
				}
				if left := tr.aws.Left(); len(left) != 2 {
					t.Errorf("there are %v, want one image and its snapshot", left)
				}
				if left, _ := filepath.Glob(filepath.Join(tr.state, "*.journal")); len(left) > 0 {
					t.Errorf("a finished build has a journal: %v", left)
				}
			})
		}
	}
}
