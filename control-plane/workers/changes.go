package workers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
)

// Proposals makes change sets; *cloudformation.Client does.
type Proposals interface {
	CreateChangeSet(context.Context, *cloudformation.CreateChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.CreateChangeSetOutput, error)
	DescribeChangeSet(context.Context, *cloudformation.DescribeChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeChangeSetOutput, error)
	DeleteChangeSet(context.Context, *cloudformation.DeleteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteChangeSetOutput, error)
}

// Operations changes stacks; *cloudformation.Client does.
type Operations interface {
	ExecuteChangeSet(context.Context, *cloudformation.ExecuteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error)
	DeleteStack(context.Context, *cloudformation.DeleteStackInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteStackOutput, error)
}

// Proposal is what is wanted of a stack.
type Proposal struct {
	// Template is the template's text; "" keeps the stack's own.
	Template string
	// Values are the parameters' values that are given. Every other one keeps the value that the
	// stack has, or gets the template's default.
	Values map[string]string
	// Now is the stack as it is, nil if it is to be made.
	Now *State
}

// ChangeSet is what CloudFormation would do.
type ChangeSet struct {
	Changes    []Change          `json:"changes"`
	Parameters []ParameterChange `json:"parameters"`

	stack, id, stackID string
	made               bool // a stack that would be left behind, empty
}

// Change is what would happen to one resource.
type Change struct {
	Action      string   `json:"action"` // Add, Modify, Remove and so on
	LogicalID   string   `json:"logicalId"`
	PhysicalID  string   `json:"physicalId,omitempty"`
	Type        string   `json:"type"`
	Replacement string   `json:"replacement,omitempty"` // True, False or Conditional
	Properties  []string `json:"properties,omitempty"`  // those that would change
}

// ParameterChange is a parameter's value before and after; Before is "" in a stack to be made.
type ParameterChange struct {
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after"`
}

// Empty says that there is nothing to change.
func (c ChangeSet) Empty() bool { return c.id == "" }

// StackID is the ARN of the stack that the change set is about.
func (c ChangeSet) StackID() string { return c.stackID }

// Propose makes a change set, which has to be executed or discarded unless it is empty.
func (s Stack) Propose(ctx context.Context, p Proposal, w Watcher) (ChangeSet, error) {
	input, err := p.input(s.Name)
	if err != nil {
		return ChangeSet{}, err
	}
	doing := "make a change set for stack " + s.Name
	out, err := s.AWS.Proposals.CreateChangeSet(ctx, input)
	if err != nil {
		return ChangeSet{}, &CallError{doing, err}
	}
	set := ChangeSet{stack: s.Name, id: aws.ToString(out.Id), stackID: aws.ToString(out.StackId), made: p.Now == nil, Changes: []Change{}, Parameters: []ParameterChange{}}
	described, err := s.awaitChangeSet(ctx, set.id, w)
	if err == nil {
		err = set.read(described, p.Now)
	}
	if err == nil && !unchanged(described) {
		return set, nil
	}
	if discarding := s.Discard(ctx, set); err == nil {
		err = discarding
	}
	return ChangeSet{Changes: []Change{}, Parameters: []ParameterChange{}}, err
}

func (p Proposal) input(stack string) (*cloudformation.CreateChangeSetInput, error) {
	input := &cloudformation.CreateChangeSetInput{
		StackName: aws.String(stack), ChangeSetName: aws.String("ovenbird-" + uuid.NewString()), ClientToken: aws.String(uuid.NewString()),
		Capabilities:  []types.Capability{types.CapabilityCapabilityIam, types.CapabilityCapabilityNamedIam},
		ChangeSetType: types.ChangeSetTypeUpdate,
	}
	if p.Now == nil {
		input.ChangeSetType = types.ChangeSetTypeCreate
	}
	var names []string
	if p.Template == "" {
		input.UsePreviousTemplate = aws.Bool(true)
		names = slices.Collect(maps.Keys(p.Now.Parameters))
	} else {
		input.TemplateBody = aws.String(p.Template)
		parsed, err := ParseTemplate([]byte(p.Template))
		if err != nil {
			return nil, err
		}
		names = parsed.names()
	}
	for name := range p.Values {
		if !slices.Contains(names, name) {
			return nil, &UnknownParameterError{Name: name, Known: slices.Sorted(slices.Values(names))}
		}
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		value, given := p.Values[name]
		previous := false
		if !given && p.Now != nil {
			_, previous = p.Now.Parameters[name]
		}
		switch {
		case given:
			input.Parameters = append(input.Parameters, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(value)})
		case previous:
			input.Parameters = append(input.Parameters, types.Parameter{ParameterKey: aws.String(name), UsePreviousValue: aws.Bool(true)})
		}
	}
	return input, nil
}

// UnknownParameterError is a parameter that the template does not have.
type UnknownParameterError struct {
	Name  string
	Known []string
}

// Error names the parameters that there are.
func (e *UnknownParameterError) Error() string {
	return fmt.Sprintf("the template has no parameter %s; it has %s", e.Name, strings.Join(e.Known, ", "))
}

// awaitChangeSet returns the change set with all its changes when it is made, or cannot be.
func (s Stack) awaitChangeSet(ctx context.Context, id string, w Watcher) (*cloudformation.DescribeChangeSetOutput, error) {
	for {
		set, err := s.describeChangeSet(ctx, id)
		switch {
		case err != nil && (ctx.Err() != nil || !passes(err)):
			return nil, &CallError{"describe the change set of stack " + s.Name, err}
		case err == nil && (set.Status == types.ChangeSetStatusCreateComplete || set.Status == types.ChangeSetStatusFailed):
			return set, nil
		}
		w.Waiting(err)
		if err := pause(ctx); err != nil {
			return nil, &CallError{"wait for the change set of stack " + s.Name, err}
		}
	}
}

func (s Stack) describeChangeSet(ctx context.Context, id string) (*cloudformation.DescribeChangeSetOutput, error) {
	var whole *cloudformation.DescribeChangeSetOutput
	pages := cloudformation.NewDescribeChangeSetPaginator(s.AWS.Proposals, &cloudformation.DescribeChangeSetInput{ChangeSetName: aws.String(id)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		if whole != nil {
			page.Changes = append(whole.Changes, page.Changes...)
		}
		whole = page
	}
	return whole, nil
}

// unchanged recognizes CloudFormation's ways to say that a change set failed for want of a change.
func unchanged(set *cloudformation.DescribeChangeSetOutput) bool {
	reason := aws.ToString(set.StatusReason)
	return set.Status == types.ChangeSetStatusFailed &&
		(strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed"))
}

// read takes over what CloudFormation says about a change set.
func (c *ChangeSet) read(set *cloudformation.DescribeChangeSetOutput, before *State) error {
	if set.Status == types.ChangeSetStatusFailed {
		if unchanged(set) && before != nil {
			return nil
		}
		return fmt.Errorf("CloudFormation cannot change stack %s so: %s", c.stack, aws.ToString(set.StatusReason))
	}
	for _, change := range set.Changes {
		r := change.ResourceChange
		if r == nil {
			continue
		}
		c.Changes = append(c.Changes, Change{
			Action: string(r.Action), LogicalID: aws.ToString(r.LogicalResourceId), PhysicalID: aws.ToString(r.PhysicalResourceId),
			Type: aws.ToString(r.ResourceType), Replacement: string(r.Replacement), Properties: properties(r),
		})
	}
	for _, p := range set.Parameters {
		change := ParameterChange{Name: aws.ToString(p.ParameterKey), After: aws.ToString(p.ParameterValue)}
		if before != nil {
			change.Before = before.Parameters[change.Name]
		}
		if change.Before != change.After {
			c.Parameters = append(c.Parameters, change)
		}
	}
	slices.SortFunc(c.Parameters, func(a, b ParameterChange) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// properties are the names of what would change in a resource.
func properties(r *types.ResourceChange) []string {
	var names []string
	for _, detail := range r.Details {
		if detail.Target == nil {
			continue
		}
		name := aws.ToString(detail.Target.Name)
		if name == "" {
			name = string(detail.Target.Attribute)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Execute lets CloudFormation carry a change set out.
func (s Stack) Execute(ctx context.Context, set ChangeSet) (Operation, error) {
	operation, err := s.next(ctx, set.stackID)
	if err != nil {
		return Operation{}, err
	}
	_, err = s.AWS.Operations.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{ChangeSetName: aws.String(set.id), ClientRequestToken: aws.String(uuid.NewString())})
	if err != nil {
		return Operation{}, &CallError{"execute the change set of stack " + s.Name, err}
	}
	return operation, nil
}

// Discard removes a change set, and the empty stack that it was to fill. It does so also when
// ctx has ended.
func (s Stack) Discard(ctx context.Context, set ChangeSet) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, err := s.AWS.Proposals.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{ChangeSetName: aws.String(set.id)})
	if err != nil {
		return &CallError{"remove the change set of stack " + s.Name, err}
	}
	if !set.made {
		return nil
	}
	if _, err := s.AWS.Operations.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: aws.String(set.stackID)}); err != nil {
		return &CallError{"remove the empty stack " + s.Name, err}
	}
	return nil
}

// Remaining are a stack's resources that there are, as changes that would remove them.
func (s Stack) Remaining(ctx context.Context, of State) ([]Change, error) {
	resources, err := s.resources(ctx, of.ID)
	if err != nil {
		return nil, err
	}
	changes := []Change{}
	for _, r := range resources {
		changes = append(changes, Change{Action: string(types.ChangeActionRemove), LogicalID: aws.ToString(r.LogicalResourceId), PhysicalID: aws.ToString(r.PhysicalResourceId), Type: aws.ToString(r.ResourceType)})
	}
	return changes, nil
}

func (s Stack) resources(ctx context.Context, stackID string) ([]types.StackResource, error) {
	out, err := s.AWS.Stacks.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{StackName: aws.String(stackID)})
	if err != nil {
		return nil, &CallError{"describe the resources of stack " + s.Name, err}
	}
	return slices.DeleteFunc(out.StackResources, func(r types.StackResource) bool {
		return aws.ToString(r.PhysicalResourceId) == "" || r.ResourceStatus == types.ResourceStatusDeleteComplete
	}), nil
}

// Delete has CloudFormation remove the stack with everything in it.
func (s Stack) Delete(ctx context.Context, of State) (Operation, error) {
	operation, err := s.next(ctx, of.ID)
	if err != nil {
		return Operation{}, err
	}
	_, err = s.AWS.Operations.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: aws.String(of.ID), ClientRequestToken: aws.String(uuid.NewString())})
	if err != nil {
		return Operation{}, &CallError{"delete stack " + s.Name, err}
	}
	return operation, nil
}

// said is what an API answered, without the SDK's wrapping.
func said(err error) string {
	var answer smithy.APIError
	if errors.As(err, &answer) && answer.ErrorMessage() != "" {
		return answer.ErrorMessage()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
