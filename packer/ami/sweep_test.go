package ami

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
)

// sweep runs the command and returns what it prints.
func (tr *trial) sweep(t *testing.T, args ...string) ([]Leftover, error) {
	t.Helper()
	cmd := sweepCommand(quickCloud)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(t.Output())
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(append([]string{"--output", "json", "--journal-directory", tr.state}, args...))
	failed := cmd.ExecuteContext(t.Context())
	var all []Leftover
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		t.Fatalf("%v, %v:\n%s", failed, err, out.String())
	}
	return all, failed
}

func TestSweepRemovesWhatAKilledBuildHasLeft(t *testing.T) {
	for _, action := range []string{"StartSnapshot", "PutSnapshotBlock", "RegisterImage", "CreateTags"} {
		t.Run(action, func(t *testing.T) {
			tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
			tr.aws.Fail(t, fault.Fault{Action: action, Effect: fault.Delay, Wait: 50 * time.Millisecond})
			tr.killAfter(t, action, 1)
			tr.aws.Faults.Clear()
			before := len(tr.aws.Left())
			listed, err := tr.sweep(t, "--dry-run")
			if err != nil || len(listed) == 0 || len(tr.aws.Left()) != before {
				t.Errorf("--dry-run lists %+v of %d, %v", listed, before, err)
			}
			swept, err := tr.sweep(t)
			if err != nil || len(swept) != len(listed) {
				t.Errorf("swept are %+v, %v", swept, err)
			}
			for _, l := range swept {
				if !l.Removed {
					t.Errorf("%+v is not removed", l)
				}
			}
			if left := tr.aws.Left(); len(left) > 0 {
				t.Errorf("these are left: %v", left)
			}
			if again, err := tr.sweep(t); err != nil || len(again) != 0 {
				t.Errorf("a second sweep finds %+v, %v", again, err)
			}
		})
	}
}

func TestSweepFindsByItsTagsWhatNoJournalSpeaksOf(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	finished := tr.must(t)
	writeDisk(t, tr.disk, 40, 0, 9)
	tr.aws.Fail(t, fault.Fault{Action: "RegisterImage", Effect: fault.Delay, Wait: 50 * time.Millisecond})
	tr.killAfter(t, "RegisterImage", 2)
	tr.aws.Faults.Clear()
	journals, _ := filepath.Glob(filepath.Join(tr.state, "*.journal"))
	if len(journals) != 1 {
		t.Fatalf("the journals are %v", journals)
	}
	if err := os.Remove(journals[0]); err != nil {
		t.Fatal(err)
	}
	if swept, err := tr.sweep(t); err != nil || len(swept) != 0 {
		t.Errorf("what may be of a build under way elsewhere is swept: %+v, %v", swept, err)
	}
	swept, err := tr.sweep(t, "--older-than", "0s", "--region", tr.aws.Regions[0])
	if err != nil || len(swept) == 0 {
		t.Errorf("swept are %+v, %v", swept, err)
	}
	if left := tr.aws.Left(); len(left) != 2 {
		t.Errorf("there are %v, want the finished image and its snapshot", left)
	}
	tr.disk = filepath.Join(t.TempDir(), "first.raw")
	writeDisk(t, tr.disk, 40, 0, 1, 5, 6, 7, 30)
	tr.holds(t, finished.State("image_id").(string))
}

func TestSweepTakesWhatIsOldAndUnfinishedForLeftOver(t *testing.T) {
	s := sweep{olderThan: time.Hour, skip: map[string]bool{"under way": true}}
	old := time.Now().Add(-2 * time.Hour)
	for name, test := range map[string]struct {
		tags map[string]string
		made time.Time
		want bool
	}{
		"old":                  {map[string]string{tagBuild: "b"}, old, true},
		"new":                  {map[string]string{tagBuild: "b"}, time.Now(), false},
		"of no date":           {map[string]string{tagBuild: "b"}, time.Time{}, false},
		"published":            {map[string]string{tagBuild: "b", tagPublished: "x"}, old, false},
		"of a build under way": {map[string]string{tagBuild: "under way"}, old, false},
	} {
		if got := s.leftOver(tags(test.tags), test.made); got != test.want {
			t.Errorf("what is %s is left over: %v", name, got)
		}
	}
}

func TestSweepLeavesABuildAloneThatIsUnderWay(t *testing.T) {
	tr := newTrial(t)
	tr.ui.hear = func(line string) {
		if !strings.HasPrefix(line, "Registering") {
			return
		}
		if swept, err := tr.sweep(t, "--older-than", "0s"); err != nil || len(swept) != 0 {
			t.Errorf("swept are %+v, %v", swept, err)
		}
	}
	artifact := tr.must(t)
	tr.holds(t, artifact.State("image_id").(string))
}

func TestSweepLeavesTheJournalsOfOtherAccountsAlone(t *testing.T) {
	tr := newTrial(t)
	j, err := journal.Open(filepath.Join(tr.state, "other.journal"))
	if err != nil {
		t.Fatal(err)
	}
	snapshot := journal.Resource{Kind: journal.Snapshot, Region: tr.aws.Regions[0], ID: "snap-0123456789abcdef0"}
	err = errors.Join(j.Begin(journal.Build{ID: "b", Account: "444455556666", Region: tr.aws.Regions[0]}), j.Have(snapshot), j.Close())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--dry-run"}, nil} {
		if swept, err := tr.sweep(t, args...); err == nil || !strings.Contains(err.Error(), "444455556666") || len(swept) > 0 {
			t.Errorf("%v: swept are %+v, %v", args, swept, err)
		}
	}
	if j, err = journal.Open(filepath.Join(tr.state, "other.journal")); err != nil || len(j.Resources()) != 1 {
		t.Errorf("the journal has lost its snapshot: %v", err)
	}
}

func TestSweepKeepsTheJournalOfWhatItCannotRemove(t *testing.T) {
	tr := newTrial(t, endpointtest.After(0, 20*time.Millisecond))
	tr.aws.Fail(t, fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Deny})
	tr.aws.Fail(t, fault.Fault{Action: "DeleteSnapshot", Effect: fault.Deny})
	if _, err := tr.run(t.Context()); err == nil || !strings.Contains(err.Error(), "ovenbird-image sweep") {
		t.Errorf("the error is %v, want what to try in it", err)
	}
	if swept, err := tr.sweep(t); err == nil || len(swept) != 1 || swept[0].Removed {
		t.Errorf("swept are %+v, %v", swept, err)
	}
	paths, err := store(tr.state).journals()
	if err != nil || len(paths) != 1 {
		t.Fatalf("the journals are %v, %v", paths, err)
	}
	if build, err := journal.Peek(paths[0]); err != nil || build.ID == "" {
		t.Errorf("the journal's build is %+v, %v", build, err)
	}
	tr.aws.Faults.Clear()
	if _, err := tr.sweep(t); err != nil {
		t.Error(err)
	}
	if left := tr.aws.Left(); len(left) > 0 {
		t.Errorf("these are left: %v", left)
	}
}
