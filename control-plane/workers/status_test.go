package workers_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

func version(id, number string) *autoscalingtypes.LaunchTemplateSpecification {
	return &autoscalingtypes.LaunchTemplateSpecification{LaunchTemplateId: aws.String(id), Version: aws.String(number)}
}

func TestTheStatusTellsOldInstancesFromCurrentOnes(t *testing.T) {
	instance := func(id string, template *autoscalingtypes.LaunchTemplateSpecification) autoscalingtypes.Instance {
		return autoscalingtypes.Instance{InstanceId: aws.String(id), LifecycleState: autoscalingtypes.LifecycleStateInService, HealthStatus: aws.String("Healthy"), LaunchTemplate: template}
	}
	mixed := func(template *autoscalingtypes.LaunchTemplateSpecification) autoscalingtypes.AutoScalingGroup {
		return autoscalingtypes.AutoScalingGroup{MixedInstancesPolicy: &autoscalingtypes.MixedInstancesPolicy{LaunchTemplate: &autoscalingtypes.LaunchTemplate{LaunchTemplateSpecification: template}}}
	}
	for name, test := range map[string]struct {
		group autoscalingtypes.AutoScalingGroup
		want  []string // by ID: current, old or unknown
	}{
		"one launch template":      {autoscalingtypes.AutoScalingGroup{LaunchTemplate: version("lt-1", "3")}, []string{"i-1 current", "i-2 old", "i-3 old"}},
		"a mixed group":            {mixed(version("lt-1", "2")), []string{"i-1 old", "i-2 current", "i-3 old"}},
		"the newest, whichever":    {mixed(version("lt-1", "$Latest")), []string{"i-1 unknown", "i-2 unknown", "i-3 unknown"}},
		"a launch template is new": {mixed(version("lt-2", "3")), []string{"i-1 old", "i-2 old", "i-3 old"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.group.AutoScalingGroupName, test.group.MinSize, test.group.MaxSize, test.group.DesiredCapacity = aws.String("workers"), aws.Int32(1), aws.Int32(4), aws.Int32(2)
			test.group.Instances = []autoscalingtypes.Instance{instance("i-2", version("lt-1", "2")), instance("i-1", version("lt-1", "3")), instance("i-3", nil)}
			a := &account{
				groups:    []autoscalingtypes.AutoScalingGroup{test.group},
				resources: []types.StackResource{{LogicalResourceId: aws.String("Workers"), PhysicalResourceId: aws.String("workers"), ResourceType: aws.String("AWS::AutoScaling::AutoScalingGroup"), ResourceStatus: types.ResourceStatusCreateComplete}},
				batches:   [][]types.StackEvent{events(0, "stack CREATE_IN_PROGRESS", "stack CREATE_COMPLETE")},
			}
			status, err := a.workers().Status(t.Context(), workers.State{ID: stackID})
			if err != nil || len(status.Groups) != 1 || status.Failure != nil {
				t.Fatalf("status %+v, %v", status, err)
			}
			var got []string
			for _, i := range status.Groups[0].Instances {
				switch {
				case i.Current == nil:
					got = append(got, i.ID+" unknown")
				case *i.Current:
					got = append(got, i.ID+" current")
				default:
					got = append(got, i.ID+" old")
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the instances are %q, want %q", got, test.want)
			}
		})
	}
}

func TestTheStatusTellsOfTheLastOperationsFailureOnly(t *testing.T) {
	for name, test := range map[string]struct {
		then []types.StackEvent
		want string
	}{
		"the last one failed":    {events(4, "stack UPDATE_IN_PROGRESS", "LaunchTemplate UPDATE_FAILED bad", "stack UPDATE_ROLLBACK_IN_PROGRESS", "stack UPDATE_ROLLBACK_COMPLETE"), "LaunchTemplate"},
		"the last one went well": {events(4, "stack UPDATE_IN_PROGRESS", "stack UPDATE_COMPLETE"), ""},
		"nothing came after":     {nil, "Old"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{batches: [][]types.StackEvent{slices.Concat(earlier, test.then)}, pageSize: 3}
			status, err := a.workers().Status(t.Context(), workers.State{ID: stackID})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if status.Failure != nil {
				got = status.Failure.LogicalID
			}
			if got != test.want {
				t.Errorf("what failed is %q, want %q", got, test.want)
			}
		})
	}
}
