package cloudformation

import (
	"context"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/template"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// maxTimeout is the longest time that a creation may be given, in minutes.
const maxTimeout = 43200

var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

// newName reads the name of a stack that is to be made.
func newName(p *query.Params) string {
	name := p.Required("StackName")
	if name != "" && !stackName.MatchString(name) {
		p.Fail(query.Invalid("1 validation error detected: Value '%s' at 'stackName' failed to satisfy constraint: "+
			"Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*", name))
	}
	return name
}

// body reads the template, which may be the stack's own where previous is not nil.
func body(p *query.Params, previous *stack) string {
	text := p.Text("TemplateBody")
	again := previous != nil && p.Flag("UsePreviousTemplate")
	switch {
	case p.Text("TemplateURL") != "":
		p.Fail(query.Invalid("The lab does not read a TemplateURL: send the template as TemplateBody, of %d bytes at most", template.MaxBody))
	case len(text) > template.MaxBody:
		p.Fail(query.Invalid("1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to %d", template.MaxBody))
	case text != "" && again:
		p.Fail(query.Invalid("You cannot specify both usePreviousTemplate and Template Body."))
	case again:
		return previous.Spec.Body
	case text == "":
		p.Fail(query.Invalid("Either Template URL or Template Body must be specified."))
	}
	return text
}

// parameters reads the values of parameters, of which some may be the stack's own.
func parameters(p *query.Params, previous *stack) map[string]string {
	values := map[string]string{}
	for _, prefix := range p.Members("Parameters") {
		key := p.Required(prefix + ".ParameterKey")
		value, given := p.Text(prefix+".ParameterValue"), p.Given(prefix+".ParameterValue")
		again := p.Flag(prefix + ".UsePreviousValue")
		if _, twice := values[key]; twice {
			p.Fail(query.Invalid("Parameters: [%s] are given more than once", key))
		}
		switch {
		case again && given:
			p.Fail(query.Invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true and nonempty value for a parameter", key))
		case again && previous == nil:
			p.Fail(query.Invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true for a parameter key not in the previous template", key))
		case again:
			old, ok := previous.Spec.Parameters[key]
			if !ok {
				p.Fail(query.Invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true for a parameter key not in the previous template", key))
			}
			value = old
		}
		values[key] = value
	}
	return values
}

// wanted reads what a stack is to be. Tags that are not given stay.
func wanted(p *query.Params, previous *stack) spec {
	sp := spec{Body: body(p, previous), Parameters: parameters(p, previous), Tags: p.Pairs("Tags"), Capabilities: p.List("Capabilities")}
	if previous != nil && !p.Given("Tags") {
		sp.Tags = previous.Spec.Tags
	}
	if len(sp.Tags) == 0 {
		sp.Tags = nil
	}
	for _, c := range sp.Capabilities {
		if !slices.Contains([]string{"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"}, c) {
			p.Fail(query.Invalid("1 validation error detected: Value '%s' at 'capabilities' failed to satisfy constraint", c))
		}
	}
	return sp
}

// onFailure reads what is to become of a stack whose creation fails.
func onFailure(p *query.Params, name string) string {
	what, keep := p.OneOf(name, "", onFailureRollback, onFailureDelete, onFailureNothing), p.Given("DisableRollback")
	disable := p.Flag("DisableRollback")
	switch {
	case what != "" && keep:
		p.Fail(query.Invalid("You cannot specify both %s and DisableRollback", name))
	case disable:
		return onFailureNothing
	}
	return what
}

type stackID struct {
	ID string `xml:"StackId"`
}

// begin starts an operation on a stack that is a copy.
func (s *Stacks) begin(st *stack, kind string, target spec, onFailure, requestToken string) {
	st.Operation = &operation{
		ID: uuid.NewString(), Token: requestToken, Kind: kind, Phase: forward, Started: s.Now().UTC(), Target: target, OnFailure: onFailure,
	}
	st.LastToken = requestToken
	if kind == kindCreate {
		st.Spec, st.KeepsAll = target, onFailure == onFailureNothing
	} else {
		st.Updated = s.Now().UTC()
	}
	st.enter(forward)
	st.move(s.Now().UTC(), kind+"_IN_PROGRESS", errStopped.Error())
}

func (s Service) createStack(_ context.Context, p *query.Params) (any, error) {
	name, requestToken := newName(p), p.Text("ClientRequestToken")
	target := wanted(p, nil)
	st := &stack{
		ID: s.Stacks.stackID(name), Name: name, Created: s.Stacks.Now().UTC(), Timeout: p.Within("TimeoutInMinutes", 1, maxTimeout, 0),
		Protected: p.Flag("EnableTerminationProtection"),
	}
	failure := onFailure(p, "OnFailure")
	if err := p.Done(); err != nil {
		return nil, err
	}
	if other, ok := s.Stacks.find(name); ok && requestToken != "" && other.LastToken == requestToken {
		return stackID{other.ID}, nil
	}
	target, _, err := s.Stacks.accept(st, target)
	if err != nil {
		return nil, err
	}
	s.Stacks.begin(st, kindCreate, target, failure, requestToken)
	if err := s.Stacks.add(st); err != nil {
		return nil, err
	}
	s.Stacks.wake()
	return stackID{st.ID}, nil
}

// update finds the stack that a request is to change.
func (s Service) update(p *query.Params) (*stack, error) {
	name := p.Required("StackName")
	st, ok := s.Stacks.find(name)
	if !ok && name != "" {
		return nil, query.Invalid("Stack [%s] does not exist", name)
	}
	return st, nil
}

func (s *Stacks) updatable(st *stack) error {
	if st.Operation != nil || !updatable[st.Status] {
		return query.Invalid("Stack:%s is in %s state and can not be updated.", st.ID, st.Status)
	}
	return nil
}

func (s Service) updateStack(ctx context.Context, p *query.Params) (any, error) {
	st, err := s.update(p)
	if err != nil {
		return nil, err
	}
	target, requestToken, keep := wanted(p, st), p.Text("ClientRequestToken"), ""
	if p.Flag("DisableRollback") {
		keep = onFailureNothing
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	if requestToken != "" && st.LastToken == requestToken {
		return stackID{st.ID}, nil
	}
	if err := s.Stacks.updatable(st); err != nil {
		return nil, err
	}
	target, v, err := s.Stacks.accept(st, target)
	if err != nil {
		return nil, err
	}
	_, some, err := s.Stacks.changes(ctx, st, v)
	switch {
	case err != nil:
		return nil, err
	case !some:
		return nil, query.Invalid("No updates are to be performed.")
	}
	return stackID{st.ID}, s.Stacks.start(st, kindUpdate, target, keep, requestToken, "")
}

// start begins an update, or what a change set holds, unless something else was faster.
func (s *Stacks) start(st *stack, kind string, target spec, onFailure, requestToken, set string) error {
	defer s.wake()
	return s.edit(st.ID, func(now *stack) error {
		if now.Status != st.Status || now.Operation != nil || !now.Updated.Equal(st.Updated) {
			return query.Invalid("Stack:%s is in %s state and can not be updated.", now.ID, now.Status)
		}
		now.execute(set)
		s.begin(now, kind, target, onFailure, requestToken)
		return nil
	})
}

func (s Service) deleteStack(_ context.Context, p *query.Params) (any, error) {
	name, requestToken, retain := p.Required("StackName"), p.Text("ClientRequestToken"), p.List("RetainResources")
	p.OneOf("DeletionMode", "", "STANDARD")
	if err := p.Done(); err != nil {
		return nil, err
	}
	st, ok := s.Stacks.find(name)
	if !ok || st.Status == deleteComplete {
		return nil, nil // as on AWS
	}
	return nil, s.Stacks.delete(st.ID, retain, requestToken)
}

// delete begins to remove a stack, or calls its creation off for that.
func (s *Stacks) delete(id string, retain []string, requestToken string) error {
	defer s.wake()
	st, err := s.get(id)
	if err != nil {
		return err
	}
	inUse := s.exportable(st, nil)
	err = s.edit(id, func(st *stack) error {
		switch {
		case st.Protected:
			return query.Invalid("Stack [%s] cannot be deleted while TerminationProtection is enabled", st.Name)
		case st.Status == deleteInProgress:
			return nil
		case st.Status == createInProgress:
			st.Operation.Delete = true
			return nil
		case st.Operation != nil && st.Operation.Phase != stalled:
			return query.Invalid("Stack [%s] cannot be deleted while in status %s", st.ID, st.Status)
		case len(retain) > 0 && st.Status != deleteFailed:
			return query.Invalid("Invalid operation on stack [%s]. Delete stack operation should not retain resources if the stack is not in DELETE_FAILED state.", st.ID)
		}
		for _, logical := range retain {
			if st.Resources[logical] == nil {
				return query.Invalid("Resources to retain [%s] do not exist in stack %s", logical, st.Name)
			}
		}
		before := st.Status
		st.LastToken = requestToken
		st.Operation = &operation{ID: uuid.NewString(), Token: requestToken, Kind: kindDelete, Started: s.Now().UTC(), Retain: retain, Target: st.Spec}
		st.enter(remove)
		st.move(s.Now().UTC(), deleteInProgress, errStopped.Error())
		if inUse != nil {
			st.finish(s.Now().UTC(), before, inUse.Error())
		}
		return nil
	})
	if now, found := s.find(id); err == nil && found && now.Operation != nil && now.Operation.Delete {
		s.stop(id)
	}
	return err
}

// stop calls off what runs for a stack.
func (s *Stacks) stop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop := s.stops[id]; stop != nil {
		stop(errStopped)
	}
}

func (s Service) cancelUpdate(_ context.Context, p *query.Params) (any, error) {
	st, err := s.update(p)
	p.Text("ClientRequestToken")
	if err == nil {
		err = p.Done()
	}
	if err != nil {
		return nil, err
	}
	err = s.Stacks.edit(st.ID, func(st *stack) error {
		if st.Status != updateInProgress {
			return query.Invalid("CancelUpdateStack cannot be called from current stack status")
		}
		st.Operation.Cancelled = true
		return nil
	})
	if err == nil {
		s.Stacks.stop(st.ID)
	}
	return nil, err
}

func (s Service) continueRollback(_ context.Context, p *query.Params) (any, error) {
	st, err := s.update(p)
	requestToken, skip := p.Text("ClientRequestToken"), p.List("ResourcesToSkip")
	if err == nil {
		err = p.Done()
	}
	if err != nil {
		return nil, err
	}
	defer s.Stacks.wake()
	return empty{}, s.Stacks.edit(st.ID, func(st *stack) error {
		if st.Status != updateRollbackFailed || st.Operation == nil {
			return query.Invalid("Stack:%s is in %s state and can not continue update rollback.", st.ID, st.Status)
		}
		for _, logical := range skip {
			if h := st.Resources[logical]; h == nil || h.Status != updateFailed {
				return query.Invalid("You can only skip resources that are in the UPDATE_FAILED state: %s", logical)
			}
		}
		// What is tried again has tokens of its own: by those that it failed with handlers would
		// take it for the same try.
		st.Operation.ID = token(st.Operation.ID, "continue")
		st.Operation.Phase, st.Operation.Skip, st.Operation.Token = restore, skip, requestToken
		st.LastToken = requestToken
		st.move(s.Stacks.Now().UTC(), updateRollbackInProgress, errStopped.Error())
		return nil
	})
}

func (s Service) protect(_ context.Context, p *query.Params) (any, error) {
	st, err := s.update(p)
	on := p.Flag("EnableTerminationProtection")
	p.Required("EnableTerminationProtection")
	if err == nil {
		err = p.Done()
	}
	if err != nil {
		return nil, err
	}
	return stackID{st.ID}, s.Stacks.edit(st.ID, func(st *stack) error { st.Protected = on; return nil })
}
