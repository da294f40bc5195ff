// Package autoscaling is Amazon EC2 Auto Scaling: groups that launch instances from launch
// templates and keep as many as are desired, lifecycle hooks that hold up the launch and the
// termination of an instance, the lifecycle state that the instance's metadata tells, warm
// pools and instance refreshes. A group without a launch template, which AWS has not, takes
// what is attached to it and replaces nothing. What nobody watches in the lab is not there:
// scaling policies, scheduled actions and notifications.
package autoscaling

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	version   = "2011-01-01"
	namespace = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
)

// timeFormat is Auto Scaling's: milliseconds, UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Limits and defaults of the API reference.
const (
	maxName         = 255
	maxGroup        = 10000
	minHeartbeat    = 30 // seconds
	maxHeartbeat    = 7200
	heartbeat       = 3600 // unless it is said
	maxAttached     = 20   // instances at once
	defaultCooldown = 300  // seconds
	maxWarmup       = 21600
)

// Service is Auto Scaling in the plan's region. It implements wire.Service.
type Service struct {
	Plan   vpc.Plan
	Groups *Groups
}

// Name implements wire.Service.
func (Service) Name() string { return "autoscaling" }

// Knows implements wire.Service.
func (Service) Knows(name string) bool { return find(name).do != nil }

type operation struct {
	do func(Service, *query.Params) (any, error)
	// forRoles tells whether an instance's role may do it: what a node needs to see its own
	// lifecycle through.
	forRoles bool
}

func find(name string) operation {
	switch name {
	case "CreateAutoScalingGroup":
		return operation{do: Service.createGroup}
	case "UpdateAutoScalingGroup":
		return operation{do: Service.updateGroup}
	case "DeleteAutoScalingGroup":
		return operation{do: Service.deleteGroup}
	case "DescribeAutoScalingGroups":
		return operation{do: Service.describeGroups}
	case "DescribeAutoScalingInstances":
		return operation{Service.describeInstances, true}
	case "DescribeScalingActivities":
		return operation{do: Service.describeActivities}
	case "SetDesiredCapacity":
		return operation{do: Service.setDesired}
	case "AttachInstances":
		return operation{do: Service.attach}
	case "DetachInstances":
		return operation{do: Service.detach}
	case "TerminateInstanceInAutoScalingGroup":
		return operation{do: Service.terminate}
	case "SetInstanceProtection":
		return operation{do: Service.setProtection}
	case "SetInstanceHealth":
		return operation{do: Service.setHealth}
	case "SuspendProcesses":
		return operation{do: Service.suspend}
	case "ResumeProcesses":
		return operation{do: Service.resume}
	}
	return findRest(name)
}

func findRest(name string) operation {
	switch name {
	case "CreateOrUpdateTags":
		return operation{do: Service.putTags}
	case "DeleteTags":
		return operation{do: Service.deleteTags}
	case "DescribeTags":
		return operation{do: Service.describeTags}
	case "PutLifecycleHook":
		return operation{do: Service.putHook}
	case "DeleteLifecycleHook":
		return operation{do: Service.deleteHook}
	case "DescribeLifecycleHooks":
		return operation{Service.describeHooks, true}
	case "CompleteLifecycleAction":
		return operation{Service.complete, true}
	case "RecordLifecycleActionHeartbeat":
		return operation{Service.heartbeat, true}
	case "PutWarmPool":
		return operation{do: Service.putPool}
	case "DeleteWarmPool":
		return operation{do: Service.deletePool}
	case "DescribeWarmPool":
		return operation{do: Service.describePool}
	case "StartInstanceRefresh":
		return operation{do: Service.startRefresh}
	case "CancelInstanceRefresh":
		return operation{do: Service.cancelRefresh}
	case "RollbackInstanceRefresh":
		return operation{do: Service.rollbackRefresh}
	case "DescribeInstanceRefreshes":
		return operation{do: Service.describeRefreshes}
	}
	return operation{}
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	o := find(call.Action)
	switch {
	case o.do == nil:
		return nil, query.Unknown(version, call)
	case !o.forRoles && call.ByRole():
		return nil, query.Denied("autoscaling", call)
	case call.Region != s.Plan.Region:
		return nil, query.Invalid("The lab has Auto Scaling in %s only", s.Plan.Region)
	}
	result, err := o.do(s, query.Read(call))
	return query.Answer{Action: call.Action, Result: result}, err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	query.Write(w, namespace, id, value, err)
}

// empty is the result of actions that answer nothing, of which some have a result element.
type empty struct{}

// page is the part of a list that a caller asks for.
type page struct{ from, most int }

func readPage(p *query.Params, otherwise, most int) page {
	out := page{most: p.Within("MaxRecords", 1, most, otherwise)}
	if token := p.Text("NextToken"); token != "" {
		text, err := base64.StdEncoding.DecodeString(token)
		if err == nil {
			out.from, err = strconv.Atoi(string(text))
		}
		if err != nil || out.from < 0 {
			p.Fail(query.Refuse("InvalidNextToken", "The token '%s' is invalid.", token))
		}
	}
	return out
}

// cut is the page of a list, and the token of the next one.
func cut[T any](list []T, p page) (part []T, next string) {
	list = list[min(p.from, len(list)):]
	if len(list) <= p.most {
		return list, ""
	}
	return list[:p.most], base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(p.from + p.most)))
}
