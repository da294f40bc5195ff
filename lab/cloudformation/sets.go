package cloudformation

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/query"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// changeSet is what an update, or a creation, would do.
type changeSet struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Kind        string    `json:"kind"` // kindCreate or kindUpdate
	Created     time.Time `json:"created"`
	Status      string    `json:"status"` // createComplete or setFailed
	Reason      string    `json:"reason,omitempty"`
	Execution   string    `json:"execution"`
	OnFailure   string    `json:"onFailure,omitempty"`
	Spec        spec      `json:"spec"`
	Changes     []change  `json:"changes,omitempty"`
}

const (
	setFailed        = "FAILED"
	unavailable      = "UNAVAILABLE"
	available        = "AVAILABLE"
	executing        = "EXECUTE_IN_PROGRESS"
	executed         = "EXECUTE_COMPLETE"
	failedToExecute  = "EXECUTE_FAILED"
	withoutChanges   = "The submitted information didn't contain changes. Submit different information to create a change set."
	changeSetMissing = "ChangeSetNotFound"
)

func noSuchSet(name string) error {
	return &wire.Error{Status: http.StatusNotFound, Code: changeSetMissing, Message: "ChangeSet [" + name + "] does not exist"}
}

// set reads which change set is meant.
func (s Service) set(p *query.Params) (*stack, *changeSet, error) {
	name, of := p.Required("ChangeSetName"), p.Text("StackName")
	if err := p.Done(); err != nil {
		return nil, nil, err
	}
	for _, st := range s.Stacks.all() {
		for _, c := range st.Sets {
			if c.ID == name || c.Name == name && (st.ID == of || st.Name == of && st.Status != deleteComplete) {
				return st, c, nil
			}
		}
	}
	return nil, nil, noSuchSet(name)
}

type setIDs struct {
	ID      string `xml:"Id"`
	StackID string `xml:"StackId"`
}

func (s Service) createChangeSet(ctx context.Context, p *query.Params) (any, error) {
	name, kind := newStackOrID(p), p.OneOf("ChangeSetType", kindUpdate, kindCreate, kindUpdate)
	c := &changeSet{
		Name: p.Required("ChangeSetName"), Description: p.Text("Description"), Kind: kind, Created: s.Stacks.Now().UTC(),
		Status: createComplete, Execution: available, OnFailure: p.OneOf("OnStackFailure", "", onFailureRollback, onFailureDelete, onFailureNothing),
	}
	c.ID = s.Stacks.arn("changeSet", c.Name)
	if c.Name != "" && !stackName.MatchString(c.Name) {
		p.Fail(query.Invalid("1 validation error detected: Value '%s' at 'changeSetName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", c.Name))
	}
	p.Text("ClientToken")
	p.OneOf("IncludeNestedStacks", "false")
	p.OneOf("ImportExistingResources", "false")
	st, ok := s.Stacks.find(name)
	switch {
	case name == "" || ok && kind == kindUpdate && st.Status != reviewInProgress:
	case !ok && kind == kindUpdate:
		p.Fail(query.Invalid("Stack [%s] does not exist", name))
	case ok && st.Status == reviewInProgress && kind == kindUpdate:
		p.Fail(query.Invalid("Stack [%s] is in REVIEW_IN_PROGRESS state and can not be updated.", st.Name))
	case ok && st.Status != reviewInProgress:
		p.Fail(query.Invalid("Stack [%s] already exists and cannot be created again with the changeSet [%s].", st.Name, c.Name))
	}
	var previous *stack
	if kind == kindUpdate {
		previous = st
	}
	c.Spec = wanted(p, previous)
	if err := p.Done(); err != nil {
		return nil, err
	}
	if ok && slices.ContainsFunc(st.Sets, func(other *changeSet) bool { return other.Name == c.Name }) {
		return nil, query.Refuse("AlreadyExistsException", "ChangeSet %s already exists", c.Name)
	}
	if !ok {
		st = &stack{ID: s.Stacks.stackID(name), Name: name, Created: c.Created}
		st.move(c.Created, reviewInProgress, errStopped.Error())
	}
	if err := s.fill(ctx, st, c); err != nil {
		return nil, err
	}
	var err error
	if !ok {
		st.Sets = []*changeSet{c}
		err = s.Stacks.add(st)
	} else {
		err = s.Stacks.edit(st.ID, func(st *stack) error { st.Sets = append(st.Sets, c); return nil })
	}
	return setIDs{c.ID, st.ID}, err
}

// newStackOrID reads the name of a stack that may have to be made, or the ID of one.
func newStackOrID(p *query.Params) string {
	if name := p.Text("StackName"); len(name) > 4 && name[:4] == "arn:" {
		return name
	}
	return newName(p)
}

// fill computes what a change set would do.
func (s Service) fill(ctx context.Context, st *stack, c *changeSet) error {
	if c.Kind == kindUpdate {
		if err := s.Stacks.updatable(st); err != nil {
			return err
		}
	}
	sp, v, err := s.Stacks.accept(st, c.Spec)
	if err != nil {
		return err
	}
	c.Spec = sp
	changes, some, err := s.Stacks.changes(ctx, st, v)
	if err != nil {
		return err
	}
	c.Changes = changes
	if !some {
		c.Status, c.Execution, c.Reason = setFailed, unavailable, withoutChanges
	}
	return nil
}

type changeItem struct {
	Type     string `xml:"Type"`
	Resource change `xml:"ResourceChange"`
}

type described struct {
	ID           string       `xml:"ChangeSetId"`
	Name         string       `xml:"ChangeSetName"`
	StackID      string       `xml:"StackId"`
	StackName    string       `xml:"StackName"`
	Description  string       `xml:"Description,omitempty"`
	Parameters   []parameter  `xml:"Parameters>member"`
	Created      string       `xml:"CreationTime"`
	Execution    string       `xml:"ExecutionStatus"`
	Status       string       `xml:"Status"`
	Reason       string       `xml:"StatusReason,omitempty"`
	Capabilities []string     `xml:"Capabilities>member"`
	Tags         []tag        `xml:"Tags>member"`
	OnFailure    string       `xml:"OnStackFailure,omitempty"`
	Nested       bool         `xml:"IncludeNestedStacks"`
	Next         string       `xml:"NextToken,omitempty"`
	Changes      []changeItem `xml:"Changes>member"`
}

func (s Service) describeChangeSet(_ context.Context, p *query.Params) (any, error) {
	p.OneOf("IncludePropertyValues", "false")
	p.Text("NextToken")
	st, c, err := s.set(p)
	if err != nil {
		return nil, err
	}
	changes, next := page(p, c.Changes)
	if err := p.Done(); err != nil {
		return nil, err
	}
	d := described{
		ID: c.ID, Name: c.Name, StackID: st.ID, StackName: st.Name, Description: c.Description, Parameters: given(c.Spec), Created: c.Created.Format(timeFormat),
		Execution: c.Execution, Status: c.Status, Reason: c.Reason, Capabilities: c.Spec.Capabilities, Tags: tags(c.Spec.Tags), OnFailure: c.OnFailure, Next: next,
	}
	for _, one := range changes {
		d.Changes = append(d.Changes, changeItem{"Resource", one})
	}
	return d, nil
}

func (s Service) executeChangeSet(_ context.Context, p *query.Params) (any, error) {
	requestToken, keep := p.Text("ClientRequestToken"), p.Flag("DisableRollback")
	st, c, err := s.set(p)
	if err != nil {
		return nil, err
	}
	onFailure := c.OnFailure
	switch {
	case c.Execution != available:
		return nil, query.Refuse("InvalidChangeSetStatus", "ChangeSet [%s] cannot be executed in its current status of [%s]", c.ID, c.Status)
	case keep && onFailure != "":
		return nil, query.Invalid("You cannot specify both OnStackFailure and DisableRollback")
	case keep:
		onFailure = onFailureNothing
	case c.Kind == kindUpdate:
		if err := s.Stacks.updatable(st); err != nil {
			return nil, err
		}
	}
	return empty{}, s.Stacks.start(st, c.Kind, c.Spec, onFailure, requestToken, c.ID)
}

// execute notes on a copy of a stack that an operation carries a change set out; the others
// are of a stack that is no more as they knew it.
func (s *stack) execute(id string) {
	s.Sets = slices.DeleteFunc(s.Sets, func(c *changeSet) bool { return c.ID != id && c.Execution != executed })
	for _, c := range s.Sets {
		if c.ID == id {
			c.Execution = executing
		}
	}
}

func (s Service) deleteChangeSet(_ context.Context, p *query.Params) (any, error) {
	st, c, err := s.set(p)
	if err != nil {
		return nil, err
	}
	return empty{}, s.Stacks.edit(st.ID, func(st *stack) error {
		if c.Execution == executing {
			return query.Refuse("InvalidChangeSetStatus", "ChangeSet [%s] cannot be deleted in its current status of [%s]", c.ID, c.Execution)
		}
		st.Sets = slices.DeleteFunc(st.Sets, func(other *changeSet) bool { return other.ID == c.ID })
		return nil
	})
}

type setSummary struct {
	ID          string `xml:"ChangeSetId"`
	Name        string `xml:"ChangeSetName"`
	StackID     string `xml:"StackId"`
	StackName   string `xml:"StackName"`
	Description string `xml:"Description,omitempty"`
	Created     string `xml:"CreationTime"`
	Execution   string `xml:"ExecutionStatus"`
	Status      string `xml:"Status"`
	Reason      string `xml:"StatusReason,omitempty"`
}

type setList struct {
	Summaries []setSummary `xml:"Summaries>member"`
	Next      string       `xml:"NextToken,omitempty"`
}

func (s Service) listChangeSets(_ context.Context, p *query.Params) (any, error) {
	name := p.Required("StackName")
	p.Text("NextToken")
	if err := p.Done(); err != nil {
		return nil, err
	}
	st, err := s.Stacks.get(name)
	if err != nil {
		return nil, err
	}
	sets, next := page(p, st.Sets)
	if err := p.Done(); err != nil {
		return nil, err
	}
	list := setList{Next: next}
	for _, c := range sets {
		list.Summaries = append(list.Summaries, setSummary{c.ID, c.Name, st.ID, st.Name, c.Description, c.Created.Format(timeFormat), c.Execution, c.Status, c.Reason})
	}
	return list, nil
}
