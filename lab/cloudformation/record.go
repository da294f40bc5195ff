package cloudformation

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
)

// stack is the record of one. What readers get is never changed: each change is made to a
// copy that takes its place once it is on disk.
type stack struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Status    string            `json:"status"`
	Reason    string            `json:"reason,omitempty"`
	Created   time.Time         `json:"created"`
	Updated   time.Time         `json:"updated,omitzero"`
	Deleted   time.Time         `json:"deleted,omitzero"`
	Spec      spec              `json:"spec"`
	KeepsAll  bool              `json:"keepsAll,omitempty"` // a failure rolls nothing back
	Timeout   int               `json:"timeout,omitempty"`  // of the creation, in minutes
	Protected bool              `json:"protected,omitempty"`
	Resources map[string]*held  `json:"resources,omitempty"` // by logical ID
	Outputs   map[string]output `json:"outputs,omitempty"`
	Imports   []string          `json:"imports,omitempty"` // names of exports
	Events    []event           `json:"events,omitempty"`  // the newest last
	Sets      []*changeSet      `json:"changeSets,omitempty"`
	Operation *operation        `json:"operation,omitempty"`
	LastToken string            `json:"lastToken,omitempty"` // of the last request that began an operation
}

// spec is what a stack is to be.
type spec struct {
	Body         string            `json:"body"`
	Parameters   map[string]string `json:"parameters,omitempty"`
	Resolved     map[string]string `json:"resolved,omitempty"` // the values of parameters of SSM
	Tags         map[string]string `json:"tags,omitempty"`
	Capabilities []string          `json:"capabilities,omitempty"`
}

// Phases of an operation. A stalled one waits for ContinueUpdateRollback.
const (
	forward = "forward" // makes and changes resources
	restore = "restore" // undoes changes of an update
	cleanUp = "cleanUp" // removes what an update or its undoing has left over
	remove  = "remove"  // removes all resources
	stalled = "stalled"
)

// operation is what is under way. It is carried on from here by the next daemon.
type operation struct {
	ID        string              `json:"id"`
	Token     string              `json:"token,omitempty"` // ClientRequestToken
	Kind      string              `json:"kind"`            // CREATE, UPDATE or DELETE
	Phase     string              `json:"phase"`
	Started   time.Time           `json:"started"`
	Target    spec                `json:"target"`
	OnFailure string              `json:"onFailure,omitempty"`
	Undone    bool                `json:"undone,omitempty"`    // the update is rolled back
	Cancelled bool                `json:"cancelled,omitempty"` // by CancelUpdateStack
	Delete    bool                `json:"delete,omitempty"`    // DeleteStack came meanwhile
	Retain    []string            `json:"retain,omitempty"`    // resources that a deletion leaves
	Skip      []string            `json:"skip,omitempty"`      // resources that a rollback leaves
	Orphans   bool                `json:"orphans,omitempty"`   // something could not be removed
	Signals   map[string][]Signal `json:"signals,omitempty"`   // by logical ID
}

// calledOff tells whether resources are not to be made and changed any more.
func (o *operation) calledOff() bool { return o.Phase == forward && (o.Cancelled || o.Delete) }

// Steps of a resource in the phase.
const (
	begun = "begun"
	done  = "done"
)

// held is a resource of a stack.
type held struct {
	Type   string    `json:"type"`
	Status string    `json:"status"`
	Reason string    `json:"reason,omitempty"`
	Time   time.Time `json:"time"`
	Step   string    `json:"step,omitempty"`
	Again  bool      `json:"again,omitempty"` // it failed before: its handler is asked whatever has changed
	Gone   bool      `json:"gone,omitempty"`  // Now is removed, and others of Before and Old are not
	Now    *made     `json:"now"`
	Before *made     `json:"before,omitempty"` // what the operation has changed or replaced
	Old    []*made   `json:"old,omitempty"`    // to be removed
}

// made is one physical resource, or what it is about to be. Birth is the operation that made
// it: an update keeps it, a replacement has its own.
type made struct {
	ID                  string            `json:"id,omitempty"`
	Birth               string            `json:"birth"`
	Properties          map[string]any    `json:"properties,omitempty"`
	Metadata            map[string]any    `json:"metadata,omitempty"`
	CreationPolicy      map[string]any    `json:"creationPolicy,omitempty"`
	UpdatePolicy        map[string]any    `json:"updatePolicy,omitempty"`
	DeletionPolicy      string            `json:"deletionPolicy,omitempty"`
	UpdateReplacePolicy string            `json:"updateReplacePolicy,omitempty"`
	DependsOn           []string          `json:"dependsOn,omitempty"`
	Tags                map[string]string `json:"tags,omitempty"`
}

type output struct {
	Description string `json:"description,omitempty"`
	Value       string `json:"value"`
	Export      string `json:"export,omitempty"`
}

type event struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Logical    string    `json:"logical"`
	Physical   string    `json:"physical,omitempty"`
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	Properties string    `json:"properties,omitempty"` // JSON
	Token      string    `json:"token,omitempty"`
}

const stackType = "AWS::CloudFormation::Stack"

// move gives the stack a status and tells it in an event.
func (s *stack) move(now time.Time, status, reason string) {
	s.Status, s.Reason = status, reason
	s.note(event{
		ID: uuid.NewString(), Time: now, Logical: s.Name, Physical: s.ID, Type: stackType, Status: status, Reason: reason, Token: s.token(),
	})
}

// mostEvents are kept of one stack: each change of the record writes them all.
const mostEvents = 1000

func (s *stack) note(e event) {
	s.Events = append(s.Events, e)
	if over := len(s.Events) - mostEvents; over > 0 {
		s.Events = slices.Delete(s.Events, 0, over)
	}
}

func (s *stack) token() string {
	if s.Operation == nil {
		return ""
	}
	return s.Operation.Token
}

// tell gives a resource a status and tells it in an event.
func (s *stack) tell(now time.Time, logical string, m *made, status, reason string) {
	h := s.Resources[logical]
	if m == h.Now {
		h.Status, h.Reason, h.Time = status, reason, now
	}
	e := event{
		ID: logical + "-" + status + "-" + uuid.NewString(), Time: now, Logical: logical, Physical: m.ID, Type: h.Type, Status: status, Reason: reason, Token: s.token(),
	}
	if m.Properties != nil {
		if data, err := json.Marshal(m.Properties); err == nil {
			e.Properties = string(data)
		}
	}
	s.note(e)
}

// name is what a resource is called that the template gives no name.
func (s *stack) name(logical string, m *made) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(s.ID + "\x00" + logical + "\x00" + m.Birth))
	random := make([]byte, 12)
	for i := range random {
		random[i] = letters[int(sum[i])%len(letters)]
	}
	return s.Name + "-" + logical + "-" + string(random)
}

// tags are what the stack puts on its resources.
func (s *stack) tags(logical string, own map[string]string) map[string]string {
	tags := map[string]string{
		"aws:cloudformation:stack-name": s.Name, "aws:cloudformation:stack-id": s.ID, "aws:cloudformation:logical-id": logical,
	}
	maps.Copy(tags, own)
	return tags
}

// token names a step for services that take a client token: the same for each try.
func token(parts ...string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.Join(parts, "\x00"))).String()
}

// template reads the stack's template, which was accepted once.
func (s spec) template() (*template.Template, error) {
	t, err := template.Parse(s.Body)
	if err != nil {
		return nil, fmt.Errorf("read a recorded template: %w", err)
	}
	return t, nil
}

// clone is a deep copy.
func (s *stack) clone() (*stack, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("copy the record of stack %s: %w", s.Name, err)
	}
	out := &stack{}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("copy the record of stack %s: %w", s.Name, err)
	}
	return out, nil
}
