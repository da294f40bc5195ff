// Package ssm answers the part of AWS Systems Manager's Parameter Store that images are
// published with, on the wire.
package ssm

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Service is SSM. It implements wire.Protocol.
type Service struct {
	Plan       vpc.Plan
	Parameters *Store
	// Allowed tells whether the policies of the role that is the caller name an action; nil: roles
	// may do nothing.
	Allowed func(caller, action string) bool
}

const target = "AmazonSSM."

// Name implements wire.Service.
func (Service) Name() string { return "ssm" }

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

// action is one of the service's. The decoder reads the request's body.
type action func(s Service, region string, in *json.Decoder) (any, error)

// actionOf makes an action of a method with a request of its own type.
func actionOf[In any](do func(s Service, region string, in In) (any, error)) action {
	return func(s Service, region string, decoder *json.Decoder) (any, error) {
		var in In
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			return nil, refuse("SerializationException", "The request's body cannot be read: %v", err)
		}
		return do(s, region, in)
	}
}

func findAction(name string) action {
	switch name {
	case "PutParameter":
		return actionOf(Service.putParameter)
	case "GetParameter":
		return actionOf(Service.getParameter)
	case "GetParameters":
		return actionOf(Service.getParameters)
	case "DeleteParameter":
		return actionOf(Service.deleteParameter)
	case "AddTagsToResource":
		return actionOf(Service.addTags)
	case "RemoveTagsFromResource":
		return actionOf(Service.removeTags)
	case "ListTagsForResource":
		return actionOf(Service.listTags)
	}
	return nil
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	do := findAction(call.Action)
	if do == nil {
		return nil, refuse("UnknownOperationException", "There is no operation %s.", strings.TrimPrefix(call.Request.Header.Get("X-Amz-Target"), target))
	}
	if call.ByRole() && (s.Allowed == nil || !s.Allowed(call.Caller.ARN, "ssm:"+call.Action)) {
		return nil, refuse("AccessDeniedException", "User: %s is not authorized to perform: ssm:%s because no identity-based policy allows the ssm:%s action",
			call.Caller.ARN, call.Action, call.Action)
	}
	return do(s, call.Region, json.NewDecoder(bytes.NewReader(call.Body)))
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, _ string, value any, err error) {
	wire.JSON{
		Exhausted: wire.Error{Code: "ParameterLimitExceeded", Message: "The number of parameters has reached its limit."},
		Internal:  "InternalServerError",
	}.Write(w, value, err)
}
