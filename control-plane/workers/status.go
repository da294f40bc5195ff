package workers

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
)

// Groups tells of Auto Scaling groups; *autoscaling.Client is one.
type Groups interface {
	DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
	DescribeScalingActivities(context.Context, *autoscaling.DescribeScalingActivitiesInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeScalingActivitiesOutput, error)
}

// Status is a stack with what is in it.
type Status struct {
	State
	Groups []Group `json:"groups"`
	// Failure is why the stack's last operation failed, if it did.
	Failure *Failure `json:"failure,omitempty"`
}

// Group is an Auto Scaling group of workers.
type Group struct {
	Name      string     `json:"name"`
	Min       int32      `json:"min"`
	Max       int32      `json:"max"`
	Desired   int32      `json:"desired"`
	Template  string     `json:"launchTemplateVersion"`
	Instances []Instance `json:"instances"`
}

// Instance is one of a group, in Auto Scaling's words.
type Instance struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Zone      string `json:"zone"`
	Lifecycle string `json:"lifecycle"` // such as InService or Terminating:Wait
	Health    string `json:"health"`
	Template  string `json:"launchTemplateVersion"`
	// Current says that a new instance would come from the same version. It is nil where the
	// group names none, but $Latest or $Default.
	Current *bool `json:"current,omitempty"`
}

// Status returns the state of a stack, of its groups and of its last operation.
func (s Stack) Status(ctx context.Context, of State) (Status, error) {
	status := Status{State: of, Groups: []Group{}}
	resources, err := s.resources(ctx, of.ID)
	if err != nil {
		return status, err
	}
	var names []string
	for _, r := range resources {
		if aws.ToString(r.ResourceType) == groupType {
			names = append(names, aws.ToString(r.PhysicalResourceId))
		}
	}
	if len(names) > 0 { // none would mean all
		out, err := s.AWS.Groups.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: names})
		if err != nil {
			return status, &CallError{"describe the Auto Scaling groups of stack " + s.Name, err}
		}
		for _, g := range out.AutoScalingGroups {
			status.Groups = append(status.Groups, group(g))
		}
	}
	events, err := s.back(ctx, of.ID, Event.begins)
	if err != nil {
		return status, err
	}
	status.Failure = s.explain(ctx, events)
	return status, nil
}

func group(g types.AutoScalingGroup) Group {
	template := g.LaunchTemplate
	if p := g.MixedInstancesPolicy; p != nil && p.LaunchTemplate != nil {
		template = p.LaunchTemplate.LaunchTemplateSpecification
	}
	if template == nil {
		template = &types.LaunchTemplateSpecification{}
	}
	described := Group{
		Name: aws.ToString(g.AutoScalingGroupName), Min: aws.ToInt32(g.MinSize), Max: aws.ToInt32(g.MaxSize), Desired: aws.ToInt32(g.DesiredCapacity),
		Template: aws.ToString(template.Version), Instances: []Instance{},
	}
	for _, i := range g.Instances {
		instance := Instance{
			ID: aws.ToString(i.InstanceId), Type: aws.ToString(i.InstanceType), Zone: aws.ToString(i.AvailabilityZone),
			Lifecycle: string(i.LifecycleState), Health: aws.ToString(i.HealthStatus),
		}
		if i.LaunchTemplate != nil {
			instance.Template = aws.ToString(i.LaunchTemplate.Version)
		}
		if isNumber(described.Template) {
			instance.Current = aws.Bool(i.LaunchTemplate != nil && same(*i.LaunchTemplate, *template))
		}
		described.Instances = append(described.Instances, instance)
	}
	slices.SortFunc(described.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	return described
}

func isNumber(version string) bool {
	return version != "" && version[0] >= '0' && version[0] <= '9'
}

// same compares launch templates, which a group may name by ID or by name.
func same(a, b types.LaunchTemplateSpecification) bool {
	if aws.ToString(a.Version) != aws.ToString(b.Version) {
		return false
	}
	if a.LaunchTemplateId != nil && b.LaunchTemplateId != nil {
		return *a.LaunchTemplateId == *b.LaunchTemplateId
	}
	return aws.ToString(a.LaunchTemplateName) == aws.ToString(b.LaunchTemplateName)
}
