package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// StatusPath is where the agent keeps its Status, for as long as the machine runs.
const StatusPath = "/run/ovenbird/status.json"

// State is how far a phase is.
type State string

// The states of a phase, in their order.
const (
	Waiting  State = "waiting"  // for the phases that it needs
	Running  State = "running"  // an attempt is under way
	Retrying State = "retrying" // the last attempt failed; another one comes at NextTry
	Done     State = "done"
)

// Status is how far the node is with joining, and when it did what. All times are in
// seconds since the kernel started.
type Status struct {
	Agent    string   `json:"agent"` // its release
	Instance string   `json:"instance,omitempty"`
	Node     string   `json:"node,omitempty"`
	Cluster  string   `json:"cluster,omitempty"`
	Hosts    bool     `json:"hostsControlPlanes,omitempty"` // it is no node
	Ready    *float64 `json:"ready,omitempty"`              // when the Node, or the service, became Ready
	Warnings []string `json:"warnings,omitempty"`
	// Scripts are those of user-data, in their order, as far as they are done.
	Scripts []ScriptStatus `json:"scripts,omitempty"`
	// LocalStorage is nil until it is known, and when the NodeConfig asks for none.
	LocalStorage *LocalStorageStatus `json:"localStorage,omitempty"`
	Traffic      traffic.Counts      `json:"traffic"` // of this run of the agent
	Phases       []PhaseStatus       `json:"phases"`
}

// warn adds a warning that is not there yet. The slice is a new one: others hold the old.
func (s *Status) warn(warning string) {
	if !slices.Contains(s.Warnings, warning) {
		s.Warnings = append(slices.Clone(s.Warnings), warning)
	}
}

// PhaseStatus is how far one phase is.
type PhaseStatus struct {
	Name      string    `json:"name"`
	State     State     `json:"state"`
	Started   *float64  `json:"started,omitempty"`
	Finished  *float64  `json:"finished,omitempty"`
	Attempts  int       `json:"attempts"`
	Failed    []float64 `json:"failed,omitempty"`    // when attempts failed: the first ones and the last, mostFailed in all
	Detail    string    `json:"detail,omitempty"`    // what the attempt under way waits for
	LastError string    `json:"lastError,omitempty"` // stays when a later attempt succeeds
	NextTry   *float64  `json:"nextTry,omitempty"`
	WhatToDo  string    `json:"whatToDo,omitempty"` // about LastError, until an attempt succeeds
	Log       []string  `json:"log,omitempty"`      // the last lines of the unit that did not start, if it was that
	// Traffic is that of all attempts, as of the end of the last.
	Traffic traffic.Count `json:"traffic,omitzero"`
}

// mostFailed keeps the status small when a phase fails for days.
const mostFailed = 64

// seconds rounds to milliseconds.
func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

// ErrNoStatus means that the agent has not run since the machine started.
var ErrNoStatus = errors.New("no status yet: the agent has not run since this machine started (see systemctl status ovenbird-agent)")

// ReadStatus returns the status that the agent under root keeps.
func ReadStatus(root rootfs.Root) (Status, error) {
	data, err := os.ReadFile(root.Join(StatusPath))
	if errors.Is(err, fs.ErrNotExist) {
		return Status{}, ErrNoStatus
	}
	if err != nil {
		return Status{}, fmt.Errorf("read the agent's status: %w", err)
	}
	var status Status
	if err := json.Unmarshal(data, &status); err != nil {
		return Status{}, fmt.Errorf("read the agent's status: %w", err)
	}
	return status, nil
}

func (s Status) write(root rootfs.Root) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the agent's status: %w", err)
	}
	return root.Apply(rootfs.File{Path: StatusPath, Data: append(data, '\n')})
}

// Headline says in one line how far the node is.
func (s Status) Headline() string {
	return s.headline(func(p PhaseStatus) string { return fmt.Sprintf("try %d failed: %s", p.Attempts, p.LastError) })
}

func (s Status) headline(failed func(PhaseStatus) string) string {
	name := s.Node
	if name == "" {
		name = "this machine"
	}
	if s.Hosts && s.Ready != nil {
		return fmt.Sprintf("%s hosts control planes, %.1fs after kernel start", name, *s.Ready)
	}
	if s.Ready != nil {
		return fmt.Sprintf("%s is Ready in cluster %s, %.1fs after kernel start", name, s.Cluster, *s.Ready)
	}
	var busy []string
	for _, phase := range s.Phases {
		if phase.State != Running && phase.State != Retrying {
			continue
		}
		text := phase.Name
		if phase.State == Retrying {
			text += " (" + failed(phase) + ")"
		} else if phase.Detail != "" {
			text += " (" + phase.Detail + ")"
		}
		busy = append(busy, text)
	}
	doing := "is joining"
	if s.Hosts {
		doing = "is becoming a host of control planes"
	}
	return fmt.Sprintf("%s %s: %s", name, doing, strings.Join(busy, ", "))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
