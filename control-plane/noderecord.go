package main

import (
	"time"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/metrics"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
)

// nodeRecord keeps what the service does about nodes: as figures, and in the audit record.
type nodeRecord struct {
	figures *metrics.Metrics
	audit   *audit.File
}

func (r nodeRecord) Record(e nodes.Event) {
	r.figures.Record(e)
	r.audit.Record(nodeAudit(e, time.Now()))
}

// nodeAudit is a decision about a node as the audit record has it. The principal is the
// Kubernetes user that filed a request; the service itself removes Nodes.
func nodeAudit(e nodes.Event, now time.Time) audit.Event {
	outcome := "denied"
	switch {
	case e.Action == nodes.ActionRemove:
		outcome = "removed"
	case e.Approved:
		outcome = "approved"
	}
	return audit.Event{
		Time: now, RequestID: e.Request, Principal: e.Requester, Operation: "ovenbird:" + e.Action,
		Resource: "cluster/" + e.Cluster + "/node/" + e.Node, Outcome: outcome, Reason: e.Reason,
	}
}
