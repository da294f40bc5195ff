// Package workers keeps the CloudFormation stack that holds the worker nodes of a cluster: it
// proposes what would change, follows what CloudFormation does, and says in the words of
// CloudFormation, Auto Scaling and the nodes themselves why something failed. It changes
// nothing but by a change set that its caller has seen, or by removing the whole stack.
package workers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"
)

// lookEvery is the time between two looks at something that goes on. CloudFormation throttles
// an account's calls, not a stack's.
const lookEvery = time.Second

// ErrNotFound means that there is no such stack.
var ErrNotFound = errors.New("the stack does not exist")

// AWS are the calls with which a stack is kept. Each has a deadline and retries of its own.
type AWS struct {
	Stacks     Stacks
	Proposals  Proposals
	Operations Operations
	Groups     Groups
	Instances  Instances
}

// Stacks tells of stacks; *cloudformation.Client is one.
type Stacks interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
	DescribeStackEvents(context.Context, *cloudformation.DescribeStackEventsInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackEventsOutput, error)
	DescribeStackResources(context.Context, *cloudformation.DescribeStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackResourcesOutput, error)
}

// Stack is the stack of a cluster's workers, which may not exist yet.
type Stack struct {
	Cluster string // the stack's parameter ClusterName
	Name    string
	AWS     AWS
}

// CallError is a call to AWS that failed.
type CallError struct {
	Doing string // such as "describe stack demo-workers"
	Err   error
}

// Error says what was being done, and what happened.
func (e *CallError) Error() string { return e.Doing + ": " + e.Err.Error() }

// Unwrap returns what happened.
func (e *CallError) Unwrap() error { return e.Err }

// State is a stack as it is now.
type State struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"` // its ARN
	Cluster    string            `json:"cluster"`
	Status     string            `json:"status"` // in CloudFormation's words
	Reason     string            `json:"reason,omitempty"`
	Created    time.Time         `json:"created"`
	Updated    *time.Time        `json:"updated,omitempty"`
	Parameters map[string]string `json:"parameters"`
}

// UnderWay says that an operation on the stack goes on.
func (s State) UnderWay() bool { return underWay(s.Status) && !s.Empty() }

// Empty says that the stack has been proposed and not been made.
func (s State) Empty() bool { return s.Status == string(types.StackStatusReviewInProgress) }

func underWay(status string) bool { return strings.HasSuffix(status, "_IN_PROGRESS") }

// Describe finds the stack: ErrNotFound if there is none, and an error if it is not that of
// the cluster's workers.
func (s Stack) Describe(ctx context.Context) (State, error) {
	found, err := s.describe(ctx, s.Name)
	if err != nil {
		return State{}, err
	}
	// A stack that was only proposed may have no parameters yet.
	if found.Cluster != s.Cluster && (!found.Empty() || found.Cluster != "") {
		of := "of cluster " + found.Cluster
		if found.Cluster == "" {
			of = "of no cluster: it has no parameter " + ClusterName
		}
		return State{}, fmt.Errorf("stack %s holds the workers %s", s.Name, of)
	}
	return found, nil
}

func (s Stack) describe(ctx context.Context, nameOrID string) (State, error) {
	out, err := s.AWS.Stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(nameOrID)})
	switch {
	case isNotFound(err), err == nil && len(out.Stacks) == 0:
		return State{}, fmt.Errorf("stack %s: %w", s.Name, ErrNotFound)
	case err != nil:
		return State{}, &CallError{"describe stack " + s.Name, err}
	}
	stack := out.Stacks[0]
	parameters := values(stack.Parameters)
	return State{
		Name: aws.ToString(stack.StackName), ID: aws.ToString(stack.StackId), Cluster: parameters[ClusterName],
		Status: string(stack.StackStatus), Reason: aws.ToString(stack.StackStatusReason),
		Created: aws.ToTime(stack.CreationTime), Updated: stack.LastUpdatedTime, Parameters: parameters,
	}, nil
}

func values(parameters []types.Parameter) map[string]string {
	values := map[string]string{}
	for _, p := range parameters {
		values[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	return values
}

// isNotFound recognizes CloudFormation's answer for a stack that is not there, which has the
// code of every other mistake.
func isNotFound(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && answer.ErrorCode() == "ValidationError" && strings.Contains(answer.ErrorMessage(), "does not exist")
}

var (
	retryable = retry.IsErrorRetryables(retry.DefaultRetryables)
	throttled = retry.IsErrorThrottles(retry.DefaultThrottles)
)

// passes says that what went wrong may be over at the next look: the network, a throttle, a
// service that is starting.
func passes(err error) bool {
	var answer smithy.APIError
	return !errors.As(err, &answer) || answer.ErrorFault() == smithy.FaultServer ||
		retryable.IsErrorRetryable(err).Bool() || throttled.IsErrorThrottle(err).Bool()
}

// pause waits for the next look, or for the context's end.
func pause(ctx context.Context) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
