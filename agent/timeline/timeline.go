// Package timeline shows where the time from kernel start to a Ready node went: as a
// table, as JSON and as a drawing. It only reads the status that joining leaves behind,
// so it shows a start that is still under way, or stuck, as well.
package timeline

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// BeforeAgent is what the time is called that passes before the agent does anything.
const BeforeAgent = "kernel and userspace"

// Timeline is the start of a node. All times are in seconds since the kernel started.
type Timeline struct {
	Instance string         `json:"instance,omitempty"`
	Node     string         `json:"node,omitempty"`
	Cluster  string         `json:"cluster,omitempty"`
	Ready    bool           `json:"ready"`
	Total    float64        `json:"total"`  // until the Node was Ready, or until now if it is not
	Phases   []Phase        `json:"phases"` // in the order of their starts
	Traffic  traffic.Counts `json:"traffic"`
}

// Phase is one row. A phase that waits for others has no Start and no Length.
type Phase struct {
	Name      string     `json:"name"`
	State     boot.State `json:"state"`
	Start     *float64   `json:"start,omitempty"`
	Length    *float64   `json:"length,omitempty"` // so far, unless State is done
	Attempts  int        `json:"attempts,omitempty"`
	Failed    []float64  `json:"failed,omitempty"` // when attempts failed, as far as it was kept
	LastError string     `json:"lastError,omitempty"`
	// Traffic is that of the phase's attempts, with whomever.
	Traffic traffic.Count `json:"traffic,omitzero"`
}

// Of returns the timeline that status tells; now is the time since kernel start.
func Of(status boot.Status, now time.Duration) Timeline {
	t := Timeline{
		Instance: status.Instance, Node: status.Node, Cluster: status.Cluster,
		Ready: status.Ready != nil, Total: now.Seconds(), Traffic: status.Traffic,
	}
	if t.Ready {
		t.Total = *status.Ready
	}
	agentStart := t.Total
	for _, told := range status.Phases {
		if t.Ready && told.Started != nil && *told.Started > t.Total {
			continue // it follows, and is not on the way there
		}
		phase := Phase{Name: told.Name, State: told.State, Attempts: told.Attempts, Failed: told.Failed, LastError: told.LastError, Traffic: told.Traffic}
		if told.Started != nil {
			end := t.Total
			if told.Finished != nil {
				end = *told.Finished
			}
			phase.Start, phase.Length = told.Started, length(*told.Started, end)
			agentStart = min(agentStart, *told.Started)
		}
		t.Phases = append(t.Phases, phase)
	}
	slices.SortStableFunc(t.Phases, func(a, b Phase) int { return cmp.Compare(a.start(t.Total), b.start(t.Total)) })
	t.Phases = slices.Insert(t.Phases, 0, Phase{Name: BeforeAgent, State: boot.Done, Start: new(float64), Length: &agentStart})
	return t
}

// Latest returns the last moment that status tells of: now, for who reads the status of
// another machine.
func Latest(status boot.Status) time.Duration {
	latest := 0.0
	for _, phase := range status.Phases {
		for _, moment := range []*float64{phase.Started, phase.Finished, phase.NextTry} {
			if moment != nil {
				latest = max(latest, *moment)
			}
		}
		for _, moment := range phase.Failed {
			latest = max(latest, moment)
		}
	}
	return time.Duration(latest * float64(time.Second))
}

// length rounds to milliseconds, as the times between which it lies are.
func length(start, end float64) *float64 {
	rounded := (time.Duration(max(0, end-start) * float64(time.Second))).Round(time.Millisecond).Seconds()
	return &rounded
}

func (p Phase) start(never float64) float64 {
	if p.Start == nil {
		return never
	}
	return *p.Start
}

// figure writes seconds as exactly as is of use.
func figure(seconds float64) string {
	switch {
	case seconds < 10:
		return fmt.Sprintf("%.2f", seconds)
	case seconds < 1000:
		return fmt.Sprintf("%.1f", seconds)
	}
	return fmt.Sprintf("%.0f", seconds)
}

// took says how long the phase took, what is odd about that, and what went over the network.
func (p Phase) took() string {
	if p.Length == nil {
		return string(p.State)
	}
	text := figure(*p.Length) + " s"
	if p.State != boot.Done {
		text += " so far"
	}
	if p.Attempts > 1 {
		text += fmt.Sprintf(", %d attempts", p.Attempts)
	}
	if bytes := p.Traffic.Bytes(); bytes > 0 {
		text += ", " + traffic.Size(bytes)
	}
	return text
}

// heading says whose start this is.
func (t Timeline) heading() string {
	name := cmp.Or(t.Node, "this machine")
	if t.Ready {
		return "How " + name + " became Ready"
	}
	return "How far " + name + " is with joining"
}

// subject says which instance and cluster it is about, as far as that is known.
func (t Timeline) subject() string {
	var known []string
	if t.Instance != "" {
		known = append(known, "instance "+t.Instance)
	}
	if t.Cluster != "" {
		known = append(known, "cluster "+t.Cluster)
	}
	return strings.Join(append(known, "seconds since kernel start"), ", ")
}

// outcome says how long it took.
func (t Timeline) outcome() string {
	if t.Ready {
		return "Ready after " + figure(t.Total) + " s"
	}
	return "not Ready after " + figure(t.Total) + " s"
}

// Print writes the timeline as a table for people.
func (t Timeline) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n", t.heading(), t.subject())
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PHASE\tSTATE\tSTART\tLENGTH\tATTEMPTS\tBYTES\tLAST ERROR")
	for _, phase := range t.Phases {
		start, took, attempts, bytes := "-", "-", "-", "-"
		if phase.Start != nil {
			start, took = figure(*phase.Start), figure(*phase.Length)
		}
		if phase.Attempts > 0 {
			attempts = fmt.Sprint(phase.Attempts)
		}
		if total := phase.Traffic.Bytes(); total > 0 {
			bytes = traffic.Size(total)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", phase.Name, phase.State, start, took, attempts, bytes, cmp.Or(phase.LastError, "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s; %s\n", t.outcome(), t.Traffic)
	return err
}
