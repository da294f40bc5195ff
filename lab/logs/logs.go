// Package logs answers the part of Amazon CloudWatch Logs on the wire that a log shipper needs,
// and a person who looks at what it has shipped: groups, streams, and events that are put, read
// and searched. Nothing expires from disk: events past their group's retention are not shown.
//
// The endpoint takes no request above 1 MiB, and JSON around an event is larger than the 26
// bytes that CloudWatch counts for it. So a batch near CloudWatch's limit of 1,048,576 bytes,
// counted its way, does not fit here; a shipper that is to work with the lab sends smaller ones.
package logs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Service is CloudWatch Logs. It implements wire.Protocol.
type Service struct {
	Plan  vpc.Plan
	Store *Store
	// Allowed tells whether the policies of the role that is the caller name an action; nil: roles
	// may do nothing.
	Allowed func(caller, action string) bool
}

const target = "Logs_20140328."

// Name implements wire.Service.
func (Service) Name() string { return "logs" }

// Knows implements wire.Service.
func (Service) Knows(string) bool { return false }

// Action implements wire.Protocol.
func (Service) Action(r *http.Request) string {
	if action := wire.Target(r, target); findAction(action) != nil {
		return action
	}
	return ""
}

// UnsignedBody implements wire.Protocol.
func (Service) UnsignedBody(string) bool { return false }

type action func(s Service, call wire.Call) (any, error)

// actionOf makes an action of a method with a request of its own type.
func actionOf[In any](do func(s Service, call wire.Call, in In) (any, error)) action {
	return func(s Service, call wire.Call) (any, error) {
		var in In
		if err := decode(call.Body, &in); err != nil {
			return nil, err
		}
		return do(s, call, in)
	}
}

func findAction(name string) action {
	switch name {
	case "CreateLogGroup":
		return actionOf(Service.createGroup)
	case "DeleteLogGroup":
		return actionOf(Service.deleteGroup)
	case "DescribeLogGroups":
		return actionOf(Service.describeGroups)
	case "PutRetentionPolicy":
		return actionOf(Service.putRetention)
	case "DeleteRetentionPolicy":
		return actionOf(Service.deleteRetention)
	case "CreateLogStream":
		return actionOf(Service.createStream)
	case "DescribeLogStreams":
		return actionOf(Service.describeStreams)
	case "PutLogEvents":
		return actionOf(Service.putEvents)
	case "GetLogEvents":
		return actionOf(Service.getEvents)
	case "FilterLogEvents":
		return actionOf(Service.filterEvents)
	}
	return nil
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	do := findAction(call.Action)
	if do == nil {
		return nil, refuse("UnknownOperationException", "There is no operation %s.", strings.TrimPrefix(call.Request.Header.Get("X-Amz-Target"), target))
	}
	if err := s.permit(call, "logs:"+call.Action); err != nil {
		return nil, err
	}
	response, err := do(s, call)
	return response, worded(err)
}

// permit refuses an action to a role unless its policies name one of them.
func (s Service) permit(call wire.Call, actions ...string) error {
	if !call.ByRole() {
		return nil
	}
	for _, a := range actions {
		if s.Allowed != nil && s.Allowed(call.Caller.ARN, a) {
			return nil
		}
	}
	return refuse("AccessDeniedException", "User: %s is not authorized to perform: %s because no identity-based policy allows the %s action",
		call.Caller.ARN, actions[0], actions[0])
}

// worded says the store's errors in CloudWatch's words.
func worded(err error) error {
	switch {
	case errors.Is(err, errNoGroup):
		return refuse("ResourceNotFoundException", "The specified log group does not exist.")
	case errors.Is(err, errNoStream):
		return refuse("ResourceNotFoundException", "The specified log stream does not exist.")
	case errors.Is(err, errProtected):
		return refuse("ValidationException", "The specified log group is protected from deletion.")
	}
	return err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, _ string, value any, err error) {
	wire.JSON{
		Exhausted: wire.Error{Code: "LimitExceededException", Message: "Resource limit exceeded."},
		Internal:  "InternalFailure",
	}.Write(w, value, err)
}

// arn is a group's, without what follows its name.
func (s Service) arn(region, name string) string {
	return fmt.Sprintf("arn:%s:logs:%s:%s:log-group:%s", s.Plan.Partition, region, s.Plan.Account, name)
}
