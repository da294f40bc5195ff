package workers

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Event is one of a stack's events.
type Event struct {
	ID         string    `json:"-"`
	At         time.Time `json:"at"`
	LogicalID  string    `json:"logicalId"` // the stack's name for its own events
	PhysicalID string    `json:"physicalId,omitempty"`
	Type       string    `json:"type"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	// Whole is for an event of the stack itself.
	Whole bool `json:"-"`
}

// Failed says that something could not be done.
func (e Event) Failed() bool { return strings.HasSuffix(e.Status, "_FAILED") }

// begins says that an operation on the stack begins with e.
func (e Event) begins() bool {
	switch types.ResourceStatus(e.Status) {
	case types.ResourceStatusCreateInProgress, types.ResourceStatusUpdateInProgress, types.ResourceStatusDeleteInProgress:
		return e.Whole
	}
	return false
}

// ends says that the operation on the stack ends with e.
func (e Event) ends() bool { return e.Whole && !underWay(e.Status) }

// Watcher is told what happens while an operation is followed.
type Watcher interface {
	Happened(Event)
	// Waiting is called after every look. The error is what kept it from seeing anything, and
	// is outlived.
	Waiting(error)
}

// Outcome is how an operation on a stack ended.
type Outcome struct {
	Status  string   `json:"status"` // of the stack
	Failure *Failure `json:"failure,omitempty"`
}

// Operation is one on a stack, which Follow follows.
type Operation struct {
	stackID string
	// after is the ID of the last event before it; "": it begins with the stack's last beginning.
	after string
}

// Under returns the operation that is under way on a stack, or the last one.
func (s State) Under() Operation { return Operation{stackID: s.ID} }

// next returns the operation that will be begun on a stack.
func (s Stack) next(ctx context.Context, stackID string) (Operation, error) {
	last, err := s.back(ctx, stackID, func(Event) bool { return true })
	if err != nil {
		return Operation{}, err
	}
	o := Operation{stackID: stackID, after: "none"}
	if len(last) > 0 {
		o.after = last[0].ID
	}
	return o, nil
}

// Follow tells w of each event of the operation once, in their order, until the operation has
// ended. Ending the context ends the following and leaves the operation alone.
func (s Stack) Follow(ctx context.Context, o Operation, w Watcher) (Outcome, error) {
	var events []Event
	var outcome Outcome
	for {
		fresh, err := s.since(ctx, o)
		switch {
		case ctx.Err() != nil:
			return outcome, ctx.Err()
		case isNotFound(err): // and nothing is left to tell of it
			outcome.Status = string(types.StackStatusDeleteComplete)
			return outcome, nil
		case err != nil && !passes(err):
			return outcome, err
		}
		for _, e := range fresh {
			w.Happened(e)
			o.after = e.ID
		}
		events = append(events, fresh...)
		// Asked at once, while the instances are there that the failure is about.
		if outcome.Failure == nil {
			outcome.Failure = s.explain(ctx, events)
		}
		if len(events) > 0 && events[len(events)-1].ends() {
			outcome.Status = events[len(events)-1].Status
			return outcome, nil
		}
		w.Waiting(err)
		if err := pause(ctx); err != nil {
			return outcome, err
		}
	}
}

// since returns the events of the operation that were not seen yet, oldest first.
func (s Stack) since(ctx context.Context, o Operation) ([]Event, error) {
	if o.after == "" {
		return s.back(ctx, o.stackID, Event.begins)
	}
	events, err := s.back(ctx, o.stackID, func(e Event) bool { return e.ID == o.after })
	if len(events) > 0 && events[0].ID == o.after {
		events = events[1:]
	}
	return events, err
}

// back reads a stack's events from the newest back to the one that is the last to read, and
// returns them oldest first.
func (s Stack) back(ctx context.Context, stackID string, last func(Event) bool) ([]Event, error) {
	var events []Event
	seen := map[string]bool{} // an event that comes between two pages moves the others along
	pages := cloudformation.NewDescribeStackEventsPaginator(s.AWS.Stacks, &cloudformation.DescribeStackEventsInput{StackName: aws.String(stackID)})
	for enough := false; !enough && pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, &CallError{"describe the events of stack " + s.Name, err}
		}
		for _, told := range page.StackEvents {
			e := event(told)
			if seen[e.ID] {
				continue
			}
			seen[e.ID] = true
			events = append(events, e)
			if last(e) {
				enough = true
				break
			}
		}
	}
	slices.Reverse(events)
	return events, nil
}

func event(told types.StackEvent) Event {
	return Event{
		ID: aws.ToString(told.EventId), At: aws.ToTime(told.Timestamp),
		LogicalID: aws.ToString(told.LogicalResourceId), PhysicalID: aws.ToString(told.PhysicalResourceId), Type: aws.ToString(told.ResourceType),
		Status: string(told.ResourceStatus), Reason: aws.ToString(told.ResourceStatusReason),
		Whole: aws.ToString(told.PhysicalResourceId) == aws.ToString(told.StackId),
	}
}
