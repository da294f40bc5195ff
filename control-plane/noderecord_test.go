package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/metrics"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
)

func TestWhatIsDoneAboutANodeIsInTheAuditRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	file, err := audit.Open(path, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	record := nodeRecord{metrics.New(), file}
	decided := nodes.Event{Cluster: "blue", Action: nodes.ActionDecide, Node: "n", Request: "csr-1", Requester: "system:node:n", Class: nodes.ClassKey, Reason: "the key is weak"}
	approved := decided
	approved.Approved, approved.Reason = true, "it asks in its own name"
	record.Record(decided)
	record.Record(approved)
	record.Record(nodes.Event{Cluster: "blue", Action: nodes.ActionRemove, Node: "n", Reason: "instance i-1 is terminated"})
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	lines := json.NewDecoder(data)
	for _, want := range []audit.Event{
		{RequestID: "csr-1", Principal: "system:node:n", Operation: "ovenbird:DecideNodeCertificate", Resource: "cluster/blue/node/n", Outcome: "denied", Reason: "the key is weak"},
		{RequestID: "csr-1", Principal: "system:node:n", Operation: "ovenbird:DecideNodeCertificate", Resource: "cluster/blue/node/n", Outcome: "approved", Reason: "it asks in its own name"},
		{Operation: "ovenbird:RemoveNode", Resource: "cluster/blue/node/n", Outcome: "removed", Reason: "instance i-1 is terminated"},
	} {
		var got audit.Event
		if err := lines.Decode(&got); err != nil {
			t.Fatal(err)
		}
		want.Time = got.Time
		if got != want || got.Time.IsZero() {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
