package workers_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

const stackID = "arn:aws:cloudformation:us-west-2:111122223333:stack/demo-workers/1"

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// account is the AWS account of a test. Each look at the events sees one more of its batches.
type account struct {
	stack      *types.Stack
	resources  []types.StackResource
	batches    [][]types.StackEvent // oldest first
	pageSize   int
	errors     []error // of the first looks at the events
	onLook     func(n int)
	changeSet  []cloudformation.DescribeChangeSetOutput // pages; the last status counts
	groups     []autoscalingtypes.AutoScalingGroup
	activities []autoscalingtypes.Activity
	instances  []ec2types.Instance
	consoles   map[string]string

	looks    int
	proposed *cloudformation.CreateChangeSetInput
	did      []string
}

func (a *account) aws() workers.AWS {
	return workers.AWS{Stacks: a, Proposals: a, Operations: a, Groups: a, Instances: a}
}

func (a *account) workers() workers.Stack {
	return workers.Stack{Cluster: "demo", Name: "demo-workers", AWS: a.aws()}
}

func refused(code, message string) error {
	return &smithy.GenericAPIError{Code: code, Message: message, Fault: smithy.FaultClient}
}

func (a *account) DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error) {
	if a.stack == nil {
		return nil, refused("ValidationError", "Stack with id demo-workers does not exist")
	}
	return &cloudformation.DescribeStacksOutput{Stacks: []types.Stack{*a.stack}}, nil
}

func (a *account) DescribeStackResources(context.Context, *cloudformation.DescribeStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackResourcesOutput, error) {
	return &cloudformation.DescribeStackResourcesOutput{StackResources: a.resources}, nil
}

// DescribeStackEvents pages by the ID of the last event, as tokens do that stay valid while
// events come.
func (a *account) DescribeStackEvents(_ context.Context, in *cloudformation.DescribeStackEventsInput, _ ...func(*cloudformation.Options)) (*cloudformation.DescribeStackEventsOutput, error) {
	if in.NextToken == nil {
		a.looks++
		if a.onLook != nil {
			a.onLook(a.looks)
		}
		if len(a.errors) > 0 {
			err := a.errors[0]
			a.errors = a.errors[1:]
			if err != nil {
				return nil, err
			}
		}
	}
	var newest []types.StackEvent
	for _, batch := range a.batches[:min(a.looks, len(a.batches))] {
		for _, e := range batch {
			newest = append([]types.StackEvent{e}, newest...)
		}
	}
	from := 0
	for i, e := range newest {
		if in.NextToken != nil && *e.EventId == *in.NextToken {
			from = i // an overlap of one: pages may repeat an event
		}
	}
	size := cmp.Or(a.pageSize, 100)
	out := &cloudformation.DescribeStackEventsOutput{StackEvents: newest[from:min(from+size, len(newest))]}
	if from+size < len(newest) {
		out.NextToken = out.StackEvents[len(out.StackEvents)-1].EventId
	}
	return out, nil
}

func (a *account) CreateChangeSet(_ context.Context, in *cloudformation.CreateChangeSetInput, _ ...func(*cloudformation.Options)) (*cloudformation.CreateChangeSetOutput, error) {
	a.proposed = in
	a.did = append(a.did, "propose "+string(in.ChangeSetType))
	return &cloudformation.CreateChangeSetOutput{Id: aws.String("set-1"), StackId: aws.String(stackID)}, nil
}

func (a *account) DescribeChangeSet(_ context.Context, in *cloudformation.DescribeChangeSetInput, _ ...func(*cloudformation.Options)) (*cloudformation.DescribeChangeSetOutput, error) {
	page := len(aws.ToString(in.NextToken))
	out := a.changeSet[page]
	if page+1 < len(a.changeSet) {
		out.NextToken = aws.String(strings.Repeat("n", page+1))
	}
	return &out, nil
}

func (a *account) DeleteChangeSet(_ context.Context, in *cloudformation.DeleteChangeSetInput, _ ...func(*cloudformation.Options)) (*cloudformation.DeleteChangeSetOutput, error) {
	a.did = append(a.did, "discard "+*in.ChangeSetName)
	return &cloudformation.DeleteChangeSetOutput{}, nil
}

func (a *account) ExecuteChangeSet(_ context.Context, in *cloudformation.ExecuteChangeSetInput, _ ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error) {
	a.did = append(a.did, "execute "+*in.ChangeSetName)
	return &cloudformation.ExecuteChangeSetOutput{}, nil
}

func (a *account) DeleteStack(_ context.Context, in *cloudformation.DeleteStackInput, _ ...func(*cloudformation.Options)) (*cloudformation.DeleteStackOutput, error) {
	a.did = append(a.did, "delete "+*in.StackName)
	return &cloudformation.DeleteStackOutput{}, nil
}

func (a *account) DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error) {
	return &autoscaling.DescribeAutoScalingGroupsOutput{AutoScalingGroups: a.groups}, nil
}

func (a *account) DescribeScalingActivities(context.Context, *autoscaling.DescribeScalingActivitiesInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeScalingActivitiesOutput, error) {
	return &autoscaling.DescribeScalingActivitiesOutput{Activities: a.activities}, nil
}

func (a *account) DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	return &ec2.DescribeInstancesOutput{Reservations: []ec2types.Reservation{{Instances: a.instances}}}, nil
}

func (a *account) GetConsoleOutput(_ context.Context, in *ec2.GetConsoleOutputInput, _ ...func(*ec2.Options)) (*ec2.GetConsoleOutputOutput, error) {
	if aws.ToBool(in.Latest) {
		return nil, refused("UnsupportedOperation", "This instance type does not support retrieving the latest console logs.")
	}
	console, ok := a.consoles[*in.InstanceId]
	if !ok {
		return nil, refused("InvalidInstanceID.NotFound", "The instance ID '"+*in.InstanceId+"' does not exist")
	}
	return &ec2.GetConsoleOutputOutput{Output: aws.String(base64.StdEncoding.EncodeToString([]byte(console)))}, nil
}

// events reads lines such as "Workers CREATE_FAILED the reason", at one second each. The stack
// itself is "stack"; a resource's physical ID is its own in small letters.
func events(first int, lines ...string) []types.StackEvent {
	var list []types.StackEvent
	for i, line := range lines {
		fields := strings.SplitN(line, " ", 3)
		id, at := first+i, began.Add(time.Duration(first+i)*time.Second)
		e := types.StackEvent{
			EventId: aws.String("event-" + string(rune('a'+id))), StackId: aws.String(stackID), Timestamp: &at, ResourceStatus: types.ResourceStatus(fields[1]),
			LogicalResourceId: aws.String(fields[0]), PhysicalResourceId: aws.String(strings.ToLower(fields[0])), ResourceType: aws.String("AWS::EC2::LaunchTemplate"),
		}
		switch fields[0] {
		case "stack":
			e.LogicalResourceId, e.PhysicalResourceId, e.ResourceType = aws.String("demo-workers"), aws.String(stackID), aws.String("AWS::CloudFormation::Stack")
		case "Workers":
			e.ResourceType = aws.String("AWS::AutoScaling::AutoScalingGroup")
		}
		if len(fields) == 3 {
			e.ResourceStatusReason = aws.String(fields[2])
		}
		list = append(list, e)
	}
	return list
}

// seen writes down what a watcher is told.
type seen struct {
	events  []string
	waits   int
	trouble []error
}

func (s *seen) Happened(e workers.Event) { s.events = append(s.events, e.LogicalID+" "+e.Status) }

func (s *seen) Waiting(err error) {
	s.waits++
	if err != nil {
		s.trouble = append(s.trouble, err)
	}
}
