package cloudformation

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	version   = "2010-05-15"
	namespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
)

// timeFormat is CloudFormation's: milliseconds, UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Service is CloudFormation in the plan's region. It implements wire.Service.
type Service struct {
	Stacks *Stacks
	// Signals are resources of no stack that may be signalled too; nil: there are none.
	Signals *Signals
}

// Name implements wire.Service.
func (Service) Name() string { return "cloudformation" }

// Knows implements wire.Service.
func (Service) Knows(action string) bool { return find(action) != nil }

func find(name string) func(Service, context.Context, *query.Params) (any, error) {
	switch name {
	case "CreateStack":
		return Service.createStack
	case "UpdateStack":
		return Service.updateStack
	case "DeleteStack":
		return Service.deleteStack
	case "CancelUpdateStack":
		return Service.cancelUpdate
	case "ContinueUpdateRollback":
		return Service.continueRollback
	case "UpdateTerminationProtection":
		return Service.protect
	case "CreateChangeSet":
		return Service.createChangeSet
	case "DescribeChangeSet":
		return Service.describeChangeSet
	case "ExecuteChangeSet":
		return Service.executeChangeSet
	case "DeleteChangeSet":
		return Service.deleteChangeSet
	case "ListChangeSets":
		return Service.listChangeSets
	}
	return findReader(name)
}

// findReader finds the actions that change nothing.
func findReader(name string) func(Service, context.Context, *query.Params) (any, error) {
	switch name {
	case "DescribeStacks":
		return Service.describeStacks
	case "ListStacks":
		return Service.listStacks
	case "DescribeStackEvents":
		return Service.describeEvents
	case "DescribeStackResource":
		return Service.describeResource
	case "DescribeStackResources":
		return Service.describeResources
	case "ListStackResources":
		return Service.listResources
	case "GetTemplate":
		return Service.getTemplate
	case "GetTemplateSummary":
		return Service.summarize
	case "ValidateTemplate":
		return Service.validate
	case "ListExports":
		return Service.listExports
	case "ListImports":
		return Service.listImports
	case "SignalResource":
		return Service.signalResource
	}
	return nil
}

// Do implements wire.Service. An instance's role may signal for its instance, and do nothing
// else.
func (s Service) Do(ctx context.Context, call wire.Call) (any, error) {
	do := find(call.Action)
	switch {
	case do == nil:
		return nil, query.Unknown(version, call)
	case call.ByRole() && (call.Action != "SignalResource" || !strings.HasSuffix(call.Caller.ARN, "/"+call.Params.Get("UniqueId"))):
		return nil, query.Denied("cloudformation", call)
	case call.Region != s.Stacks.Plan.Region:
		return nil, query.Invalid("The lab has CloudFormation in %s only", s.Stacks.Plan.Region)
	}
	result, err := do(s, ctx, query.Read(call))
	return query.Answer{Action: call.Action, Result: result}, err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	query.Write(w, namespace, id, value, err)
}

// empty is the result of actions that answer nothing, and have a result element.
type empty struct{}

func (s Service) signalResource(_ context.Context, p *query.Params) (any, error) {
	name, logical := p.Required("StackName"), p.Required("LogicalResourceId")
	given := Signal{ID: p.Required("UniqueId"), Status: p.OneOf("Status", "", Success, Failure)}
	p.Required("Status")
	if err := p.Done(); err != nil {
		return nil, err
	}
	if st, ok := s.Stacks.find(name); ok {
		return nil, s.Stacks.signal(st, logical, given)
	}
	if s.Signals == nil {
		return nil, query.Invalid("Stack '%s' does not exist", name)
	}
	return nil, s.Signals.receive(name, logical, given)
}

// page is the part of a list that a token asks for, and the token of the next.
func page[T any](p *query.Params, list []T) ([]T, string) {
	const size = 100
	token, from := p.Text("NextToken"), 0
	if token != "" {
		text, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			from, err = strconv.Atoi(string(text))
		}
		if err != nil || from < 0 || from > len(list) {
			p.Fail(query.Invalid("NextToken is not valid"))
			return nil, ""
		}
	}
	if len(list)-from <= size {
		return list[from:], ""
	}
	return list[from : from+size], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(from + size)))
}
