package nodes

import (
	"slices"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// lookEvery is how often Nodes that are not Ready are held against EC2.
	lookEvery = 15 * time.Second
	// readyEvery is how often Ready ones are: their kubelet tells every 10 s that it runs.
	readyEvery = 5 * time.Minute
	// looks that must agree before a Node is removed: EC2's answers may be behind the times.
	looks = 2
)

// departures remembers, between looks, which Nodes seemed to have lost their instance.
type departures map[types.UID]sighting

type sighting struct {
	at   time.Time // of the last look
	gone int       // looks in a row that found no instance
}

// departed is a Node whose instance is gone, and why that is so.
type departed struct {
	node          *core.Node
	class, reason string
}

// due returns the Nodes to look at now, and forgets those that are no more. Nodes that are
// no EC2 instances are left alone.
func (d departures) due(nodes []*core.Node, now time.Time) (due []*core.Node) {
	here := map[types.UID]bool{}
	for _, node := range nodes {
		here[node.UID] = true
		last, known := d[node.UID]
		rest := lookEvery / 2 // so that a late tick still leaves none out
		if isReady(node) && last.gone == 0 {
			rest = readyEvery
		}
		if instanceOf(node) != "" && (!known || now.Sub(last.at) >= rest) {
			due = append(due, node)
		}
	}
	for uid := range d {
		if !here[uid] {
			delete(d, uid)
		}
	}
	return due
}

// look takes in what EC2 says of the instances of some Nodes, and returns those Nodes that
// enough looks agree about.
func (d departures) look(nodes []*core.Node, known map[string]Instance, now time.Time) (gone []departed) {
	for _, node := range nodes {
		seen := sighting{at: now}
		class, reason := fate(node, known)
		if class != "" {
			seen.gone = d[node.UID].gone + 1
		}
		d[node.UID] = seen
		if seen.gone >= looks {
			gone = append(gone, departed{node, class, reason})
		}
	}
	return gone
}

// Classes of reasons for which a Node is removed.
const (
	ClassTerminated = "terminated" // EC2 says so
	ClassUnknown    = "unknown"    // EC2 knows no such instance of that name; it forgets one an hour after its end
	ClassSuperseded = "superseded" // and another instance has the name
)

// fate says why a Node should go, or nothing. That EC2 does not know the instance of a Ready
// Node is no reason: the machine runs, so it is EC2 that was asked in a wrong way, in
// another account or region. A stopped instance comes back. A node writes its provider ID
// itself: one that names another Node's instance is as good as none.
func fate(node *core.Node, known map[string]Instance) (class, reason string) {
	id := instanceOf(node)
	instance, found := known[id]
	switch {
	case found && instance.State == stateTerminated:
		return ClassTerminated, "instance " + id + " is terminated"
	case isReady(node):
	case !found:
		return ClassUnknown, "EC2 knows no instance " + id
	case !instance.mayBe(node.Name):
		return ClassUnknown, "instance " + id + " is that of another Node, " + instance.PrivateDNSName
	}
	return "", ""
}

func isReady(node *core.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(condition core.NodeCondition) bool {
		return condition.Type == core.NodeReady && condition.Status == core.ConditionTrue
	})
}

// instanceOf returns the instance ID in a Node's provider ID, aws:///ZONE/ID; empty when it
// is none.
func instanceOf(node *core.Node) string {
	rest, ok := strings.CutPrefix(node.Spec.ProviderID, "aws:///")
	_, id, zoned := strings.Cut(rest, "/")
	if !ok || !zoned || !instanceID.MatchString(id) {
		return ""
	}
	return id
}
