package workers

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const groupType = "AWS::AutoScaling::AutoScalingGroup"

const (
	// Nodes that fail mostly fail alike.
	mostNodes = 3
	// mostLines holds what the agent says about a phase that fails for minutes.
	mostLines = 16
	// fewLines are enough to see where a machine stopped that has not come to its agent.
	fewLines     = 5
	mostLaunches = 3
)

// Instances tells of instances; *ec2.Client is one.
type Instances interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	GetConsoleOutput(context.Context, *ec2.GetConsoleOutputInput, ...func(*ec2.Options)) (*ec2.GetConsoleOutputOutput, error)
}

// Failure is why an operation failed: its first event that says so, and for a group of
// instances what the instances say.
type Failure struct {
	Event
	// Launches is what Auto Scaling says about instances that it could not launch.
	Launches []string `json:"launches,omitempty"`
	// Nodes are instances that did not signal success.
	Nodes []FailedNode `json:"nodes,omitempty"`
	// Problem is what kept the rest from being found out.
	Problem string `json:"problem,omitempty"`
}

// FailedNode is an instance that did not become a Ready node.
type FailedNode struct {
	Instance string `json:"instance"`
	State    string `json:"state,omitempty"` // in EC2's words
	// Console are the agent's last lines on it, or the last of all if the agent wrote none.
	Console []string `json:"console,omitempty"`
	Agent   bool     `json:"agent"`             // whether they are the agent's
	Problem string   `json:"problem,omitempty"` // what kept the console from being read
}

// explain returns nil when nothing of the operation, which began with the first of events, has failed.
func (s Stack) explain(ctx context.Context, events []Event) *Failure {
	first, ok := firstFailure(events)
	if !ok {
		return nil
	}
	f := &Failure{Event: first}
	if first.Type != groupType || first.PhysicalID == "" {
		return f
	}
	began := events[0].At
	var problems []string
	launches, err := s.failedLaunches(ctx, first.PhysicalID, began)
	if err != nil {
		problems = append(problems, "ask Auto Scaling for launches that failed: "+said(err))
	}
	nodes, err := s.failedNodes(ctx, first.PhysicalID, began, signals(events))
	if err != nil {
		problems = append(problems, "ask EC2 for the group's instances: "+said(err))
	}
	f.Launches, f.Nodes, f.Problem = launches, nodes, strings.Join(problems, "; ")
	return f
}

// firstFailure finds the resource that failed first. Others are cancelled for its sake, and the
// stack's own event only names them all.
func firstFailure(events []Event) (Event, bool) {
	for _, e := range events {
		if e.Failed() && !e.Whole && !strings.Contains(e.Reason, "cancelled") {
			return e, true
		}
	}
	for _, e := range events {
		if e.Whole && (e.Failed() || e.Reason != "" && strings.Contains(e.Status, "ROLLBACK_IN_PROGRESS")) {
			return e, true
		}
	}
	return Event{}, false
}

var signalled = regexp.MustCompile(`Received (SUCCESS|FAILURE) signal with UniqueId (\S+)`)

// signals are what instances said, by their IDs.
func signals(events []Event) map[string]string {
	said := map[string]string{}
	for _, e := range events {
		if found := signalled.FindStringSubmatch(e.Reason); found != nil {
			said[found[2]] = found[1]
		}
	}
	return said
}

// failedLaunches are those of the group since a time, the first ones.
func (s Stack) failedLaunches(ctx context.Context, group string, since time.Time) ([]string, error) {
	out, err := s.AWS.Groups.DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{
		AutoScalingGroupName: aws.String(group), IncludeDeletedGroups: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	var failed []string
	for _, a := range slices.Backward(out.Activities) { // newest first
		said := cmp.Or(aws.ToString(a.StatusMessage), aws.ToString(a.Description))
		if a.StatusCode != autoscalingtypes.ScalingActivityStatusCodeFailed || aws.ToTime(a.StartTime).Before(since) || slices.Contains(failed, said) {
			continue
		}
		if failed = append(failed, said); len(failed) == mostLaunches {
			break
		}
	}
	return failed, nil
}

// failedNodes are the group's instances since a time that have not signalled success: first
// those that signalled failure, then those that tried for longest.
func (s Stack) failedNodes(ctx context.Context, group string, since time.Time, signals map[string]string) ([]FailedNode, error) {
	var failed []ec2types.Instance
	pages := ec2.NewDescribeInstancesPaginator(s.AWS.Instances, &ec2.DescribeInstancesInput{
		Filters: []ec2types.Filter{{Name: aws.String("tag:aws:autoscaling:groupName"), Values: []string{group}}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				if signals[aws.ToString(i.InstanceId)] != "SUCCESS" && !aws.ToTime(i.LaunchTime).Before(since.Truncate(time.Second)) {
					failed = append(failed, i)
				}
			}
		}
	}
	gaveUp := func(i ec2types.Instance) int {
		if signals[aws.ToString(i.InstanceId)] == "FAILURE" {
			return 0
		}
		return 1
	}
	slices.SortFunc(failed, func(a, b ec2types.Instance) int {
		return cmp.Or(cmp.Compare(gaveUp(a), gaveUp(b)), aws.ToTime(a.LaunchTime).Compare(aws.ToTime(b.LaunchTime)), cmp.Compare(*a.InstanceId, *b.InstanceId))
	})
	var nodes []FailedNode
	for _, i := range failed[:min(mostNodes, len(failed))] {
		node := FailedNode{Instance: aws.ToString(i.InstanceId)}
		if i.State != nil {
			node.State = string(i.State.Name)
		}
		console, err := s.console(ctx, node.Instance)
		if err != nil {
			node.Problem = said(err)
		}
		node.Console, node.Agent = lastWords(console)
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// console is what an instance has printed, up to the present where EC2 can tell.
func (s Stack) console(ctx context.Context, instance string) (string, error) {
	out, err := s.AWS.Instances.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: aws.String(instance), Latest: aws.Bool(true)})
	if err != nil || aws.ToString(out.Output) == "" {
		// An instance that is not on Nitro, or is gone, has only what EC2 kept.
		out, err = s.AWS.Instances.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: aws.String(instance)})
	}
	if err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return "", fmt.Errorf("decode the console's output: %w", err)
	}
	return string(text), nil
}

// agentSays is the beginning of each line that the agent prints on the console.
const agentSays = "ovenbird-agent: ["

// lastWords are the agent's last lines on a console, or the last lines of whatever there is.
func lastWords(console string) (lines []string, agent bool) {
	var own, all []string
	for line := range strings.Lines(console) {
		line = printable(line)
		if line == "" {
			continue
		}
		all = append(all, line)
		// The kernel may write into the same line.
		if at := strings.Index(line, agentSays); at >= 0 {
			own = append(own, strings.TrimPrefix(line[at:], "ovenbird-agent: "))
		}
	}
	if len(own) > 0 {
		return own[max(0, len(own)-mostLines):], true
	}
	return all[max(0, len(all)-fewLines):], false
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// printable leaves away what would command the reader's terminal.
func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, escapes.ReplaceAllString(line, "")))
}
