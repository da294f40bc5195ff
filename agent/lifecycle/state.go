package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// StatePath is where the watch keeps its State, for as long as the machine runs.
const StatePath = "/run/ovenbird/lifecycle.json"

// State is how far the watch is with moving the pods away.
type State struct {
	Cause     Cause     `json:"cause,omitempty"` // empty: nothing is under way
	Detail    string    `json:"detail,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Deadline  time.Time `json:"deadline,omitzero"` // of the drain
	Cordoned  bool      `json:"cordoned"`          // the Node is unschedulable, by whom ever
	Left      []string  `json:"left,omitempty"`    // pods that are still there: "namespace/name"
	Blocked   []string  `json:"blocked,omitempty"` // what keeps pods from being evicted
	Drained   bool      `json:"drained"`           // all pods are gone, or the deadline is past
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	Told      bool      `json:"told"` // Auto Scaling knows that the drain has ended
	LastError string    `json:"lastError,omitempty"`
}

// ReadState returns the State that the watch under root keeps, an empty one when nothing
// has been under way since the machine started.
func ReadState(root rootfs.Root) (State, error) {
	var state State
	if err := readJSON(root, StatePath, &state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return State{}, err
	}
	return state, nil
}

func (s State) write(root rootfs.Root) error {
	file, err := jsonFile(StatePath, s)
	if err != nil {
		return err
	}
	return root.Apply(file)
}

// Headline says in one line what is under way, "" when nothing is.
func (s State) Headline() string {
	if s.Cause == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(Plan{Cause: s.Cause, Detail: s.Detail}.String())
	switch {
	case s.Drained && len(s.Left) == 0:
		b.WriteString(": drained")
	case s.Drained:
		fmt.Fprintf(&b, ": the deadline is past with pods left: %s", strings.Join(s.Left, ", "))
	case len(s.Left) > 0:
		fmt.Fprintf(&b, ": draining until %s, pods left: %s", s.Deadline.UTC().Format(time.TimeOnly), strings.Join(s.Left, ", "))
	case s.Cordoned:
		b.WriteString(": cordoned")
	default:
		b.WriteString(": to be cordoned")
	}
	if len(s.Blocked) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(s.Blocked, "; "))
	}
	if s.LastError != "" {
		fmt.Fprintf(&b, "; last error: %s", s.LastError)
	}
	return b.String()
}
