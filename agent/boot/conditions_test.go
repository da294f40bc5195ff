package boot_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
)

func (w *world) condition(kind corev1.NodeConditionType) corev1.NodeCondition {
	w.t.Helper()
	for _, condition := range w.server.Node(nodeName).Status.Conditions {
		if condition.Type == kind {
			return condition
		}
	}
	w.t.Fatalf("the Node has no condition %s: %+v", kind, w.server.Node(nodeName).Status.Conditions)
	return corev1.NodeCondition{}
}

func TestANodeThatIsWellSaysSo(t *testing.T) {
	w := newWorld(t)
	w.mustJoin()
	for _, kind := range []corev1.NodeConditionType{"BootstrapScriptsFailed", "LocalStorageDegraded", "NodeConfigWarnings"} {
		if got := w.condition(kind); got.Status != corev1.ConditionFalse || got.Reason == "" || got.Message == "" || got.LastTransitionTime.IsZero() || got.LastHeartbeatTime.IsZero() {
			t.Errorf("got %+v", got)
		}
	}
	if got := w.condition(corev1.NodeReady); got.Status != corev1.ConditionTrue {
		t.Errorf("got %+v", got)
	}
}

func TestWhatIsWrongIsOnTheNodeAndEachThingOnce(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("user-data", strings.Replace(w.withScripts("#!/bin/sh\none", "#!/bin/sh\ntwo"), "  cluster:\n", "  featureGates: {NoSuchGate: true}\n  cluster:\n", 1))
	w.commands.run = func(_ context.Context, text string) (int, error) {
		if strings.HasSuffix(text, "two") {
			return 3, nil
		}
		return 0, nil
	}
	w.mustJoin()
	scripts, config := w.condition("BootstrapScriptsFailed"), w.condition("NodeConfigWarnings")
	if scripts.Status != corev1.ConditionTrue || scripts.Message != "script part 2 (text/x-shellscript): exit status 3" {
		t.Errorf("got %+v", scripts)
	}
	if config.Status != corev1.ConditionTrue || !strings.Contains(config.Message, "NoSuchGate") || strings.Contains(config.Message, "exit status") {
		t.Errorf("got %+v", config)
	}
}

func TestANodeThatIsNotReadyHasItsConditionsAlready(t *testing.T) {
	w := newWorld(t)
	notify := ""
	w.onStatus = func(headline string) {
		if strings.Contains(headline, "ready (container runtime network not ready)") {
			for _, call := range w.server.Calls() {
				if strings.HasSuffix(call, "PATCH /api/v1/nodes/"+nodeName+"/status") {
					notify = call
				}
			}
		}
	}
	w.mustJoin()
	if notify == "" {
		t.Error("nothing was written before the node was Ready")
	}
}

func TestAConditionThatStaysKeepsItsTime(t *testing.T) {
	w := newWorld(t)
	w.mustJoin()
	before := w.condition("BootstrapScriptsFailed")
	w.clock.leap(2 * time.Minute)
	node := w.server.Node(nodeName)
	w.units.kubelet = func() { w.server.SetNode(node) } // it keeps what others have written
	w.mustJoin()
	if after := w.condition("BootstrapScriptsFailed"); !after.LastTransitionTime.Equal(&before.LastTransitionTime) || !after.LastHeartbeatTime.After(before.LastHeartbeatTime.Time) {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestANodeIsReadyEvenIfNothingCanBeWrittenOnIt(t *testing.T) {
	w := newWorld(t)
	w.server.NoPatches = true
	w.mustJoin()
	if !strings.Contains(w.journal.String(), "the Node does not get its conditions and its annotation") {
		t.Errorf("the journal does not tell of it:\n%s", w.journal.String())
	}
}

func TestTheNodeCarriesTheFiguresOfItsStart(t *testing.T) {
	w := newWorld(t)
	w.units.fail["containerd.service"] = 2
	status := w.mustJoin()
	text := w.server.Node(nodeName).Annotations[boot.BootAnnotation]
	var got boot.Summary
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	before := 0 // others follow
	for _, phase := range status.Phases {
		if *phase.Finished <= *status.Ready {
			before++
		}
	}
	if got.Agent != "test" || got.KernelToReady != *status.Ready || len(got.Phases) != before || got.Phases["kubelet"] <= 0 || got.AWSCalls != 0 {
		t.Errorf("got %s", text)
	}
	if len(got.Attempts) != 1 || got.Attempts["containerd"] != 3 {
		t.Errorf("attempts are %v", got.Attempts)
	}
	if total := status.Traffic.Total(); got.Calls < 5 || got.Calls > total.Calls || got.Bytes < 1000 || got.Bytes > total.Bytes() {
		t.Errorf("%d calls, %d bytes; in all %+v", got.Calls, got.Bytes, total)
	}
	if len(text) > 2048 {
		t.Errorf("%d bytes", len(text))
	}
}

func TestEachPhaseCountsItsOwnTraffic(t *testing.T) {
	w := newWorld(t)
	w.server.Fail(503)
	status := w.mustJoin()
	calls := int64(0)
	for _, phase := range status.Phases {
		calls += phase.Traffic.Calls
	}
	for name, least := range map[string]int64{"metadata": 150, "configuration": 300, "identity": 1000, "api-server": 2, "network": 300, "ready": 300} {
		if got := phase(t, status, name).Traffic; got.Calls == 0 || got.Bytes() < least {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := phase(t, status, "containerd").Traffic; got.Calls != 0 {
		t.Errorf("containerd: %+v", got)
	}
	// The Node's annotation with its conditions.
	if got := phase(t, status, "report").Traffic; got.Calls != 1 {
		t.Errorf("report: %+v", got)
	}
	if left := status.Traffic.Total().Calls - calls; left != 0 {
		t.Errorf("%d of %d calls are of no phase", left, status.Traffic.Total().Calls)
	}
}

func TestMetricsAreKeptBesideTheStatus(t *testing.T) {
	w := newWorld(t)
	status := w.mustJoin()
	if got := w.read(boot.MetricsPath); got != string(status.Metrics()) || !strings.Contains(got, "\novenbird_agent_ready 1\n") {
		t.Errorf("got %s", got)
	}
	if info, err := os.Stat(w.root.Join(boot.MetricsPath)); err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v", info, err)
	}
}
