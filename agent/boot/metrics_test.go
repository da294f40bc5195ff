package boot_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/traffic"
)

// parse reads status' metrics as Prometheus does, into "name{label=value,...}" and values,
// and holds them to its conventions.
func parse(t *testing.T, status boot.Status) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(status.Metrics()))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, status.Metrics())
	}
	samples := map[string]float64{}
	for name, family := range families {
		if !regexp.MustCompile(`^ovenbird_agent_[a-z]+(_[a-z]+)*$`).MatchString(name) || !strings.HasSuffix(family.GetHelp(), ".") {
			t.Errorf("%s: %s", name, family.GetHelp())
		}
		if counter := family.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, family.GetType())
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			key := name + "{" + strings.Join(labels, ",") + "}"
			if _, twice := samples[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			samples[key] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return samples
}

func TestMetricsAreWhatTheStatusSays(t *testing.T) {
	at := func(s float64) *float64 { return &s }
	three, zero := 3, 0
	got := parse(t, boot.Status{
		Agent: "1.0", Ready: at(31.105), Warnings: []string{"odd", "odder"},
		Traffic: traffic.Counts{Metadata: traffic.Count{Calls: 13, Received: 4212}, AWS: traffic.Count{Calls: 1}, APIServer: traffic.Count{Calls: 6, Sent: 12345678, Received: 21844}},
		Scripts: []boot.ScriptStatus{{Name: "a \"quoted\"\\\nname", ExitStatus: &three}, {Name: "same", ExitStatus: &zero}, {Name: "same", Error: "was killed"}},
		Phases: []boot.PhaseStatus{
			{Name: "metadata", State: boot.Done, Started: at(5), Finished: at(7.5), Attempts: 3, Traffic: traffic.Count{Calls: 13, Sent: 1, Received: 4212}},
			{Name: "files", State: boot.Retrying, Started: at(8), Attempts: 2},
			{Name: "containerd", State: boot.Running, Started: at(8), Attempts: 2},
			{Name: "ready", State: boot.Waiting},
		},
	})
	for sample, want := range map[string]float64{
		"ovenbird_agent_build_info{version=1.0}":                                1,
		"ovenbird_agent_ready{}":                                                1,
		"ovenbird_agent_ready_seconds{}":                                        31.105,
		"ovenbird_agent_warnings{}":                                             2,
		"ovenbird_agent_phase_done{phase=metadata}":                             1,
		"ovenbird_agent_phase_done{phase=ready}":                                0,
		"ovenbird_agent_phase_start_seconds{phase=files}":                       8,
		"ovenbird_agent_phase_duration_seconds{phase=metadata}":                 2.5,
		"ovenbird_agent_phase_attempts_total{phase=files}":                      2,
		"ovenbird_agent_phase_failures_total{phase=metadata}":                   2,
		"ovenbird_agent_phase_failures_total{phase=files}":                      2,
		"ovenbird_agent_phase_failures_total{phase=containerd}":                 1,
		"ovenbird_agent_phase_failures_total{phase=ready}":                      0,
		"ovenbird_agent_phase_received_bytes_total{phase=metadata}":             4212,
		"ovenbird_agent_requests_total{service=aws}":                            1,
		"ovenbird_agent_sent_bytes_total{service=api_server}":                   12345678,
		"ovenbird_agent_received_bytes_total{service=instance_metadata}":        4212,
		"ovenbird_agent_script_exit_status{number=1,name=a \"quoted\"\\\nname}": 3,
		"ovenbird_agent_script_exit_status{number=2,name=same}":                 0,
		"ovenbird_agent_script_failed{number=2,name=same}":                      0,
		"ovenbird_agent_script_failed{number=3,name=same}":                      1,
	} {
		if value, there := got[sample]; !there || value != want {
			t.Errorf("%s is %v, %v; want %v", sample, value, there, want)
		}
	}
	for _, absent := range []string{"ovenbird_agent_phase_duration_seconds{phase=files}", "ovenbird_agent_phase_start_seconds{phase=ready}", "ovenbird_agent_script_exit_status{number=3,name=same}"} {
		if value, there := got[absent]; there {
			t.Errorf("%s is %v", absent, value)
		}
	}
}

func TestMetricsOfAStartThatHasJustBegunAreWellFormed(t *testing.T) {
	got := parse(t, boot.Status{Agent: "\xff", Phases: []boot.PhaseStatus{{Name: "metadata", State: boot.Waiting}}})
	if _, there := got["ovenbird_agent_ready_seconds{}"]; there || got["ovenbird_agent_ready{}"] != 0 {
		t.Errorf("got %v", got)
	}
}
