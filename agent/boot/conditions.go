package boot

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
)

// condition is one of the Node's that the agent keeps, beside kubelet's. As with kubelet's
// own but for Ready, True means that something is wrong.
type condition struct {
	kind string
	// The reason and the message while nothing is wrong, and the reason while something is.
	fine, fineMessage, wrong string
	// problem says what is wrong, or "".
	problem func(Status) string
}

// conditions are all of them. Each is written at every start, False as well, so that an
// alert can tell a node that is well from one that nothing is known of.
var conditions = []condition{
	{"BootstrapScriptsFailed", "ScriptsSucceeded", "no script of user-data has failed", "ScriptFailed", Status.scriptProblem},
	{"LocalStorageDegraded", "LocalStorageHealthy", "nothing that the NodeConfig asks of drives and swap has failed", "LocalStorageDegraded", Status.storageProblem},
	{"NodeConfigWarnings", "NoWarnings", "nothing in user-data is without effect", "Warnings", Status.configProblem},
}

func (s Status) scriptProblem() string {
	var failed []string
	for _, script := range s.Scripts {
		if failure := script.failure(); failure != "" {
			failed = append(failed, script.warning())
		}
	}
	return strings.Join(failed, "; ")
}

// configProblem leaves out what scriptProblem and storageProblem tell.
func (s Status) configProblem() string {
	warnings := slices.Clone(s.Warnings)
	for _, script := range s.Scripts {
		warnings = slices.DeleteFunc(warnings, func(warning string) bool { return warning == script.warning() })
	}
	if storage := s.storageProblem(); storage != "" {
		warnings = slices.DeleteFunc(warnings, func(warning string) bool { return warning == storage })
	}
	return strings.Join(warnings, "; ")
}

// longestMessage bounds a condition's message, in characters.
const longestMessage = 1024

// nodeConditions returns the agent's conditions as status has them. One whose state has not
// changed since before, the Node's conditions so far, keeps the time of its last transition.
func nodeConditions(status Status, before []apiserver.Condition, now time.Time) []apiserver.Condition {
	now = now.UTC().Truncate(time.Second) // as times are in the API
	var result []apiserver.Condition
	for _, c := range conditions {
		made := apiserver.Condition{
			Type: c.kind, Status: apiserver.False, Reason: c.fine, Message: c.fineMessage,
			LastHeartbeatTime: now, LastTransitionTime: now,
		}
		if problem := c.problem(status); problem != "" {
			made.Status, made.Reason, made.Message = apiserver.True, c.wrong, cut(oneLine(problem), longestMessage)
		}
		for _, old := range before {
			if old.Type == made.Type && old.Status == made.Status {
				made.LastTransitionTime = old.LastTransitionTime
			}
		}
		result = append(result, made)
	}
	return result
}

// see keeps the Node, and writes its conditions as soon as kubelet has reported and it is not
// Ready, which is when they may explain why.
func (n *node) see(ctx context.Context, seen *apiserver.Node) {
	n.seen = seen
	if n.told || seen.Ready() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, seenDeadline)
	defer cancel()
	if err := n.patch(ctx, n.runner.now(), nil); err != nil {
		n.Log.Info("cannot write the Node's conditions yet", zap.Error(err))
		return
	}
	n.told = true
}

// seenDeadline keeps the node from noticing late that it is Ready.
const seenDeadline = 3 * time.Second

// patch writes the conditions and these annotations on the Node.
func (n *node) patch(ctx context.Context, status Status, annotations map[string]string) error {
	return n.client.PatchNodeStatus(ctx, n.seen.Name, nodeConditions(status, n.seen.Status.Conditions, n.Clock.Now()), annotations)
}

// BootAnnotation is the Node's annotation that holds a Summary in JSON.
const BootAnnotation = "ovenbird.dev/boot"

// Summary is the start of a node in a few figures. Lengths are in seconds.
type Summary struct {
	Agent         string             `json:"agent"` // its release
	KernelToReady float64            `json:"kernelToReadySeconds"`
	Phases        map[string]float64 `json:"phases"`             // how long each took
	Attempts      map[string]int     `json:"attempts,omitempty"` // of phases that took more than one
	Calls         int64              `json:"calls"`              // to anybody
	Bytes         int64              `json:"bytes"`              // of bodies, in both directions
	AWSCalls      int64              `json:"awsCalls"`
}

// summary returns the start of the node that status, of a Ready one, tells of.
func (s Status) summary() Summary {
	total := s.Traffic.Total()
	summary := Summary{
		Agent: cut(s.Agent, 64), KernelToReady: *s.Ready, Phases: map[string]float64{}, Attempts: map[string]int{},
		Calls: total.Calls, Bytes: total.Bytes(), AWSCalls: s.Traffic.AWS.Calls,
	}
	for _, phase := range s.Phases {
		if took := phase.took(); took != nil {
			summary.Phases[phase.Name] = *took
		}
		if phase.Attempts > 1 {
			summary.Attempts[phase.Name] = phase.Attempts
		}
	}
	return summary
}

// tellAttempts is how often telling the cluster is tried.
const tellAttempts = 5

// tellCluster writes conditions and annotation of the Node that is Ready. A failure
// is logged and nothing more.
func (n *node) tellCluster(ctx context.Context, status Status) {
	summary, err := json.Marshal(status.summary())
	if err != nil {
		n.Log.Warn("cannot encode the summary of this start", zap.Error(err))
		return
	}
	for attempt := 1; ; attempt++ {
		err := n.patch(ctx, status, map[string]string{BootAnnotation: string(summary)})
		if err == nil {
			return
		}
		if attempt == tellAttempts {
			n.Log.Warn("the Node does not get its conditions and its annotation", zap.Error(err))
			return
		}
		if n.Clock.Sleep(ctx, delay(attempt, 0, n.Random())) != nil {
			return
		}
	}
}
