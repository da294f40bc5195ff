package operator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/smithy-go/middleware"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// WorkersCommand is `ovenbird workers`.
func WorkersCommand() *cobra.Command {
	return authenticated(group("workers", "Create, change, look at and delete the worker nodes of a cluster, in a CloudFormation stack",
		"  ovenbird workers create demo --ami ami-0123456789abcdef0 --nodes 3\n  ovenbird workers status demo",
		createWorkersCommand(), updateWorkersCommand(), deleteWorkersCommand(), workersStatusCommand()))
}

// stackName is what CloudFormation takes.
var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

// clusterAndStack is the argument check of commands about workers.
func clusterAndStack(cmd *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("want the name of a cluster, and of a stack if it is not CLUSTER-workers: %s", cmd.UseLine())
	}
	if err := oneCluster(cmd, args[:1]); err != nil {
		return err
	}
	if name := stackOf(args); !stackName.MatchString(name) {
		return fmt.Errorf("%q is no name of a stack, which begins with a letter and holds only letters, digits and hyphens, at most 128: give a NAME", name)
	}
	return nil
}

// stackOf is the stack that the arguments name.
func stackOf(args []string) string {
	if len(args) == 2 {
		return args[1]
	}
	return args[0] + "-workers"
}

// workersRun is one run of a command about workers.
type workersRun struct {
	stack    workers.Stack
	clusters *eks.Client
	watch    *workersWatch
	cmd      *cobra.Command
	confirm  *confirmation
	timeout  time.Duration
}

// connectWorkers makes the clients of a run from the AWS environment.
func connectWorkers(cmd *cobra.Command, args []string, confirm *confirmation, timeout time.Duration) (*workersRun, error) {
	loaded, clusters, err := connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	stack := workers.Stack{Cluster: args[0], Name: stackOf(args), AWS: workersAWS(loaded)}
	return &workersRun{
		stack: stack, clusters: clusters, cmd: cmd, confirm: confirm, timeout: timeout,
		watch: &workersWatch{progress: newProgress(cmd.ErrOrStderr()), stack: stack},
	}, nil
}

func workersAWS(loaded aws.Config) workers.AWS {
	loaded.APIOptions = append(loaded.APIOptions, withDeadline)
	stacks := cloudformation.NewFromConfig(loaded)
	return workers.AWS{
		Stacks: stacks, Proposals: stacks, Operations: stacks,
		Groups: autoscaling.NewFromConfig(loaded), Instances: ec2.NewFromConfig(loaded),
	}
}

// withDeadline bounds each call of a client as call does.
func withDeadline(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("deadline",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			bounded, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			out, metadata, err := next.HandleInitialize(bounded, in)
			if err != nil && ctx.Err() == nil && bounded.Err() != nil {
				err = fmt.Errorf("no answer within %s", callTimeout)
			}
			return out, metadata, err
		}), middleware.Before)
}

// workersError puts what a call answered into one line, as apiError does.
func workersError(err error) error {
	var call *workers.CallError
	if errors.As(err, &call) {
		return apiError(call.Doing, call.Err)
	}
	return err
}

// again is the command that follows what goes on.
func (r *workersRun) again() string {
	return fmt.Sprintf("`ovenbird workers status %s %s --follow`", r.stack.Cluster, r.stack.Name)
}

// follow follows an operation to its end, and makes an error of one that failed.
func (r *workersRun) follow(ctx context.Context, operation workers.Operation) (workers.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	defer r.watch.progress.end()
	outcome, err := r.stack.Follow(ctx, operation, r.watch)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return outcome, fmt.Errorf("stack %s has not come to an end within %s, and goes on: follow it with %s", r.stack.Name, r.timeout, r.again())
	case ctx.Err() != nil:
		return outcome, fmt.Errorf("interrupted: what was begun on stack %s goes on: follow it with %s", r.stack.Name, r.again())
	case err != nil:
		return outcome, fmt.Errorf("%w; what was begun goes on: follow it with %s", workersError(err), r.again())
	}
	return outcome, failed(r.stack.Name, outcome.Status, outcome.Failure)
}

// failed is the error of an operation that did not end as it should.
func failed(stack, status string, failure *workers.Failure) error {
	switch status {
	case "CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE":
		return nil
	}
	if failure == nil {
		return fmt.Errorf("stack %s is %s", stack, status)
	}
	return fmt.Errorf("stack %s is %s: %s", stack, status, headline(failure.Event))
}

// headline is an event in one line.
func headline(e workers.Event) string {
	what := e.LogicalID
	if e.Whole {
		what = "stack " + e.LogicalID
	}
	text := what + " " + e.Status
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// workersWatch shows what happens to a stack.
type workersWatch struct {
	progress *progress
	stack    workers.Stack
	last     string
	// entry lets the role of nodes in as soon as it is there; nil: nobody is let in.
	entry *roleEntry
}

// Happened shows an event.
func (w *workersWatch) Happened(e workers.Event) {
	w.last = headline(e)
	w.progress.show("%s", w.last)
	if e.Failed() {
		w.progress.end() // and the next does not take its place
	}
	if w.entry != nil {
		w.entry.happened(e)
	}
}

// Waiting shows that the wait goes on.
func (w *workersWatch) Waiting(err error) {
	if w.entry != nil {
		w.entry.try()
	}
	switch {
	case err != nil:
		w.progress.remind("stack %s: %v", w.stack.Name, innermost(err))
	case w.entry != nil && w.entry.problem != nil:
		w.progress.remind("stack %s: %v", w.stack.Name, w.entry.problem)
	case w.last == "":
		w.progress.remind("waiting for CloudFormation to look at stack %s", w.stack.Name)
	default:
		w.progress.remind("waiting for stack %s, since %s", w.stack.Name, w.last)
	}
}

// askOrYes is the check of a command that asks before it acts: it must be able to.
func askOrYes(cmd *cobra.Command, c *confirmation) error {
	if c.yes || isTerminal(cmd.InOrStdin()) {
		return nil
	}
	return cli.Usage(errors.New("there is no terminal to ask on: say --yes to go on without being asked"))
}
