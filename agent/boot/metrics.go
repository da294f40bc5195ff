package boot

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// MetricsPath is where the agent keeps its metrics for the textfile collector of
// node-exporter (--collector.textfile.directory), which reads *.prom and nothing else there.
// They are as old as the status, which is written with them.
const MetricsPath = "/run/ovenbird/metrics.prom"

// Metrics returns the status in Prometheus' text exposition format, version 0.0.4. What is
// not known yet has no sample.
func (s Status) Metrics() []byte {
	var m metrics
	m.family("build_info", "gauge", "The release of the agent.")
	m.sample("build_info", 1, "version", s.Agent)
	m.family("ready", "gauge", "Whether the Node has become Ready since the agent began (1) or not (0).")
	m.sample("ready", truth(s.Ready != nil))
	if s.Ready != nil {
		m.family("ready_seconds", "gauge", "Seconds from kernel start until the Node was Ready.")
		m.sample("ready_seconds", *s.Ready)
	}
	m.family("warnings", "gauge", "Warnings about user-data and its scripts.")
	m.sample("warnings", float64(len(s.Warnings)))

	for _, of := range []struct {
		name, kind, help string
		value            func(PhaseStatus) *float64
	}{
		{"phase_done", "gauge", "Whether a phase of joining is done (1) or not (0).",
			func(p PhaseStatus) *float64 { return number(truth(p.State == Done)) }},
		{"phase_start_seconds", "gauge", "Seconds from kernel start until a phase began.",
			func(p PhaseStatus) *float64 { return p.Started }},
		{"phase_duration_seconds", "gauge", "How long a phase took that is done.", PhaseStatus.took},
		{"phase_attempts_total", "counter", "Attempts at a phase.",
			func(p PhaseStatus) *float64 { return number(float64(p.Attempts)) }},
		{"phase_failures_total", "counter", "Attempts at a phase that failed.",
			func(p PhaseStatus) *float64 { return number(float64(p.failures())) }},
		{"phase_sent_bytes_total", "counter", "Bytes of request bodies that a phase sent.",
			func(p PhaseStatus) *float64 { return number(float64(p.Traffic.Sent)) }},
		{"phase_received_bytes_total", "counter", "Bytes of response bodies that a phase received.",
			func(p PhaseStatus) *float64 { return number(float64(p.Traffic.Received)) }},
	} {
		m.family(of.name, of.kind, of.help)
		for _, phase := range s.Phases {
			if value := of.value(phase); value != nil {
				m.sample(of.name, *value, "phase", phase.Name)
			}
		}
	}
	m.traffic(s.Traffic)
	m.scripts(s.Scripts)
	return []byte(m.String())
}

func (s Status) writeMetrics(root rootfs.Root) error {
	return root.Apply(rootfs.File{Path: MetricsPath, Data: s.Metrics()})
}

// took returns nil for a phase that is not done. It rounds to milliseconds, as the times
// between which it lies are.
func (p PhaseStatus) took() *float64 {
	if p.Started == nil || p.Finished == nil {
		return nil
	}
	return number(math.Round((*p.Finished-*p.Started)*1000) / 1000)
}

// failures returns how many attempts failed.
func (p PhaseStatus) failures() int {
	if p.State == Retrying {
		return p.Attempts
	}
	return max(0, p.Attempts-1)
}

func (m *metrics) traffic(counts traffic.Counts) {
	for _, of := range []struct {
		name, help string
		value      func(traffic.Count) int64
	}{
		{"requests_total", "Requests by the service that was asked.", func(c traffic.Count) int64 { return c.Calls }},
		{"sent_bytes_total", "Bytes of request bodies by the service that was asked.", func(c traffic.Count) int64 { return c.Sent }},
		{"received_bytes_total", "Bytes of response bodies by the service that was asked.", func(c traffic.Count) int64 { return c.Received }},
	} {
		m.family(of.name, "counter", of.help)
		m.sample(of.name, float64(of.value(counts.Metadata)), "service", "instance_metadata")
		m.sample(of.name, float64(of.value(counts.AWS)), "service", "aws")
		m.sample(of.name, float64(of.value(counts.APIServer)), "service", "api_server")
	}
}

// scripts tells of the scripts of user-data. Their names need not differ, so their numbers
// in user-data's order, from 1, stand beside them.
func (m *metrics) scripts(scripts []ScriptStatus) {
	if len(scripts) == 0 {
		return
	}
	m.family("script_failed", "gauge", "Whether a script of user-data failed (1) or not (0).")
	for i, script := range scripts {
		m.sample("script_failed", truth(script.failure() != ""), "number", strconv.Itoa(i+1), "name", script.Name)
	}
	m.family("script_exit_status", "gauge", "Exit status of a script of user-data that ended by itself.")
	for i, script := range scripts {
		if script.ExitStatus != nil {
			m.sample("script_exit_status", float64(*script.ExitStatus), "number", strconv.Itoa(i+1), "name", script.Name)
		}
	}
}

// metrics is an exposition under way. All names in it begin with metricsPrefix.
type metrics struct{ strings.Builder }

const metricsPrefix = "ovenbird_agent_"

func (m *metrics) family(name, kind, help string) {
	fmt.Fprintf(m, "# HELP %s%s %s\n# TYPE %s%s %s\n", metricsPrefix, name, help, metricsPrefix, name, kind)
}

// labelEscapes are those of a label's value.
var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// sample adds a line; labels are names and values in turn.
func (m *metrics) sample(name string, value float64, labels ...string) {
	var set []string
	for pair := range slices.Chunk(labels, 2) {
		set = append(set, fmt.Sprintf(`%s="%s"`, pair[0], labelEscapes.Replace(strings.ToValidUTF8(pair[1], "\uFFFD"))))
	}
	m.WriteString(metricsPrefix + name)
	if len(set) > 0 {
		m.WriteString("{" + strings.Join(set, ",") + "}")
	}
	m.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

func number(value float64) *float64 { return &value }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
