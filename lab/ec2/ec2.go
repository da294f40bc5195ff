// Package ec2 answers the part of the Amazon EC2 API that a node's life needs, on the
// wire, as strictly as EC2 does. What it does not know it refuses: an action, a filter or
// a parameter that would have no effect is an error, not a silent success.
package ec2

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// Fleet is the instances; fleet.Fleet documents the methods.
type Fleet interface {
	Launch(fleet.Order) ([]fleet.Instance, error)
	Terminate(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Instances() []fleet.Instance
}

// Images finds the size in bytes of a registered image; not ok when there is none.
type Images interface {
	Size(id string) (bytes int64, ok bool)
}

// Service is EC2. It implements query.Service.
type Service struct {
	Plan     vpc.Plan
	Fleet    Fleet
	Images   Images
	Profiles []string // the instance profiles that exist; each has a role of its own name
}

// Name implements query.Service.
func (Service) Name() string { return "ec2" }

type action struct {
	do func(Service, *params) (any, error)
	// forRoles tells whether an instance's role may do it: what the managed policy
	// AmazonEKSWorkerNodePolicy allows.
	forRoles bool
}

func find(name string) (action, bool) {
	switch name {
	case "RunInstances":
		return action{do: Service.runInstances}, true
	case "TerminateInstances":
		return action{do: Service.terminateInstances}, true
	case "DescribeInstances":
		return action{Service.describeInstances, true}, true
	case "DescribeInstanceTypes":
		return action{Service.describeInstanceTypes, true}, true
	case "DescribeSubnets":
		return action{Service.describeSubnets, true}, true
	case "DescribeVpcs":
		return action{Service.describeVPCs, true}, true
	}
	return action{}, false
}

// Knows implements query.Service.
func (Service) Knows(name string) bool {
	_, ok := find(name)
	return ok
}

// Do implements query.Service.
func (s Service) Do(_ context.Context, call query.Call) (any, error) {
	a, ok := find(call.Action)
	if !ok {
		return nil, invalid("InvalidAction", "The action %s is not valid for this web service.", call.Action)
	}
	if !a.forRoles && strings.Contains(call.Caller.ARN, ":assumed-role/") {
		return nil, &query.Error{Status: http.StatusForbidden, Code: "UnauthorizedOperation", Message: "You are not authorized to perform this operation. User: " +
			call.Caller.ARN + " is not authorized to perform: ec2:" + call.Action}
	}
	p := newParams(call)
	if p.values.Get("DryRun") == "true" {
		return nil, &query.Error{Status: http.StatusPreconditionFailed, Code: "DryRunOperation",
			Message: "Request would have succeeded, but DryRun flag is set."}
	}
	return a.do(s, p)
}

type failure struct {
	XMLName   xml.Name `xml:"Response"`
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	RequestID string   `xml:"RequestID"`
}

// Write implements query.Service.
func (s Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	status := http.StatusOK
	if err != nil {
		f := failure{RequestID: id}
		f.Code, f.Message, status = explain(err)
		value = f
	}
	body, err := xml.Marshal(value)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(xml.Header))
	_, _ = w.Write(body)
}

// explain turns an error into what EC2 would send.
func explain(err error) (code, message string, status int) {
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case sigv4.CodeUnknownKey, sigv4.CodeMismatch:
			return "AuthFailure", "AWS was not able to validate the provided access credentials", http.StatusUnauthorized
		case sigv4.CodeExpired, sigv4.CodeExpiredToken:
			return "RequestExpired", "Request has expired.", http.StatusBadRequest
		case sigv4.CodeMissingToken:
			return refused.Code, refused.Message, http.StatusForbidden
		}
		return refused.Code, refused.Message, http.StatusBadRequest
	}
	var told *query.Error
	if errors.As(err, &told) {
		return told.Code, told.Message, told.Status
	}
	return "InternalError", "An internal error has occurred", http.StatusInternalServerError
}
