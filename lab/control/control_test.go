package control

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

// nobody is a fleet without instances.
type nobody struct{}

func (nobody) Notify(id string, _ fleet.Notice) error {
	return &fleet.NotFoundError{IDs: []string{id}}
}

func TestFaultsAreSetThroughASocketWithALongPathThatOnlyItsOwnerMayUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control.sock")
	client, faults := Client(path), &fault.Set{}
	if _, err := client.State(t.Context()); err == nil || !strings.Contains(err.Error(), "ovenbird-lab up") {
		t.Errorf("without a daemon: %v", err)
	}
	for range 2 { // the second daemon finds the first one's socket
		listener, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: Handler(faults, nobody{}, &cloudformation.Signals{}), ReadHeaderTimeout: time.Second}
		go func() { _ = server.Serve(listener) }()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket is %v, %v", info.Mode(), err)
		}
		if _, err := client.Add(t.Context(), fault.Fault{Effect: "explode"}); err == nil || !strings.Contains(err.Error(), "throttle") {
			t.Errorf("an effect that is none: %v", err)
		}
		if _, err := client.Add(t.Context(), fault.Fault{Action: "PutSnapshotBlock", Effect: fault.Throttle, Count: 2}); err != nil {
			t.Fatal(err)
		}
		faults.Strike("PutSnapshotBlock")
		state, err := client.State(t.Context())
		if err != nil || len(state.Faults) != 1 || state.Faults[0].Count != 1 || state.Calls["PutSnapshotBlock"] == 0 {
			t.Errorf("%+v, %v", state, err)
		}
		if state, err := client.Clear(t.Context()); err != nil || len(state.Faults) != 0 {
			t.Errorf("cleared: %+v, %v", state, err)
		}
		announced := client.Announce(t.Context(), Announcement{Instance: "i-1", Notice: fleet.Notice{Event: fleet.Rebalance}})
		if announced == nil || !strings.Contains(announced.Error(), "no instances [i-1]") {
			t.Errorf("announced to nobody: %v", announced)
		}
		if err := client.Expect(t.Context(), "a stack", "Nodes/1"); err != nil {
			t.Fatal(err)
		}
		if err := client.Expect(t.Context(), "a stack", "Nodes/1"); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("expected twice: %v", err)
		}
		if list, err := client.Signals(t.Context(), "a stack", "Nodes/1"); err != nil || len(list) != 0 {
			t.Errorf("signals %v, %v", list, err)
		}
		if err := client.Forget(t.Context(), "a stack", "Nodes/1"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Signals(t.Context(), "a stack", "Nodes/1"); err == nil || !strings.Contains(err.Error(), "nobody waits") {
			t.Errorf("forgotten: %v", err)
		}
		_ = server.Close()
	}
}
