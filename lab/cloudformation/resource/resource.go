// Package resource is what a CloudFormation resource type is to the engine that runs stacks:
// the properties that it knows, and how one of its kind is made, changed and removed. A
// service of the lab offers its types as values of Type; the engine in lab/cloudformation
// knows no service.
package resource

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound is Handler.Update's and Handler.Attribute's answer for a resource that is gone.
var ErrNotFound = errors.New("the resource does not exist")

// Type is one resource type.
type Type struct {
	Name string // such as AWS::EC2::LaunchTemplate
	// Properties is a pointer to the struct that the properties are decoded into. Its fields'
	// JSON names are the properties that the lab knows; a template with any other is refused by
	// name before a resource is made.
	Properties any
	// Required and CreateOnly name properties, CreateOnly also nested ones as A.B: without the
	// first a template is refused, a change to the second replaces the resource.
	Required, CreateOnly []string
	// Attributes are those of Fn::GetAtt, nested ones as A.B.
	Attributes []string
	Handler    Handler
}

// Handler makes, changes and removes the resources of one type. Each method returns when the
// resource is as stable as CloudFormation would wait for. All may be called again after the
// lab was killed in the midst of one: Create with the same Token finds what it made before.
type Handler interface {
	// Create answers the physical ID, also beside an error when something was made that Delete
	// has to remove.
	Create(ctx context.Context, r Request) (id string, err error)
	// Update changes what is not CreateOnly. r.Before is what the resource has now.
	Update(ctx context.Context, id string, r Request) error
	// Delete removes the resource; one that is gone is no error.
	Delete(ctx context.Context, id string, r Request) error
	// Ref is what the template's Ref gives for the resource, mostly the physical ID.
	Ref(id string) string
	// Attribute is the value of Fn::GetAtt: a string or a list of strings.
	Attribute(ctx context.Context, id, name string) (any, error)
}

// Snapshotter is a Handler whose resources can have the policy Snapshot: a snapshot is taken
// before Delete. The same r.Token takes one only. Without it the policy is refused.
type Snapshotter interface {
	Snapshot(ctx context.Context, id string, r Request) error
}

// Request is a resource as a template wants it.
type Request struct {
	Stack, StackID, LogicalID string
	// Token is the same whenever the same step of the same operation is tried again, and
	// names nothing else. It fits where services take a client token.
	Token string
	// Name is what CloudFormation calls a resource that the template gives no name:
	// STACK-LOGICALID-RANDOM, the same for each try.
	Name string
	// Tags are the stack's, with those of aws:cloudformation: and without the template's own
	// for the resource, which are a property.
	Tags map[string]string
	// Properties are resolved: no intrinsic function is left. Decode reads them.
	Properties, Before map[string]any
	// CreationPolicy and UpdatePolicy are the attributes of those names, resolved; nil: none.
	CreationPolicy, UpdatePolicy map[string]any
	Signals                      Signals
	// Progress puts words into the stack's events, as "Received SUCCESS signal with UniqueId
	// i-0abc".
	Progress func(reason string)
}

// NameWithin is Name, or when it is longer than most (14 at least) it is cut to that in the
// middle: its end makes it unique.
func (r Request) NameWithin(most int) string {
	const tail = 13 // the dash and what is random
	if len(r.Name) <= most {
		return r.Name
	}
	return r.Name[:most-tail] + r.Name[len(r.Name)-tail:]
}

// UpdatePolicy is the attribute of that name, for Decode.
type UpdatePolicy struct {
	AutoScalingRollingUpdate   *RollingUpdate
	AutoScalingReplacingUpdate *struct{ WillReplace bool }
	AutoScalingScheduledAction *struct{ IgnoreUnmodifiedGroupSizeProperties bool }
}

// RollingUpdate is how a group's instances are replaced. What is nil has a default that is not 0.
type RollingUpdate struct {
	MaxBatchSize                  *int
	MinInstancesInService         int
	MinSuccessfulInstancesPercent *int
	MinActiveInstancesPercent     *int
	PauseTime                     string
	SuspendProcesses              []string
	WaitOnResourceSignals         bool
}

// Signals are what this resource is told by SignalResource, from the start of the operation.
type Signals interface {
	// Wait returns when count instances have signalled success. A failure that leaves fewer
	// than success percent of count, the timeout or the context's end are an error.
	Wait(ctx context.Context, count, success int, timeout time.Duration) error
	// Reset forgets what was received, for a batch that is to signal anew.
	Reset()
}
