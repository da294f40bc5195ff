package logs

import (
	"fmt"
	"slices"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// What a batch may be, by PutLogEvents' reference.
const (
	maxEvents = 10_000
	maxBatch  = 1_048_576 // bytes, with 26 for each event
	maxEvent  = 1_048_576 // the same
	maxSpan   = 24 * time.Hour
	maxAge    = 14 * 24 * time.Hour
	maxAhead  = 2 * time.Hour
)

type putRequest struct {
	Group    *string    `json:"logGroupName"`
	Stream   *string    `json:"logStreamName"`
	Events   []putEvent `json:"logEvents"`
	Sequence *string    `json:"sequenceToken"` // ignored, as it is on AWS
}

type putEvent struct {
	Time    *int64  `json:"timestamp"`
	Message *string `json:"message"`
}

type putResponse struct {
	Sequence string    `json:"nextSequenceToken,omitempty"`
	Rejected *rejected `json:"rejectedLogEventsInfo,omitempty"`
}

// rejected says which events of a batch are not stored: those before an end, and those from a
// start on.
type rejected struct {
	TooOld  *int `json:"tooOldLogEventEndIndex,omitempty"`
	Expired *int `json:"expiredLogEventEndIndex,omitempty"`
	TooNew  *int `json:"tooNewLogEventStartIndex,omitempty"`
}

func (s Service) putEvents(call wire.Call, in putRequest) (any, error) {
	var c check
	name, of := c.required("logGroupName", in.Group, groupName), c.required("logStreamName", in.Stream, streamName)
	c.text("sequenceToken", in.Sequence, 1, 1<<20, anything)
	events := c.events(in.Events)
	if c.err != nil {
		return nil, c.err
	}
	g, err := s.Store.get(call.Region, name)
	if err != nil {
		return nil, err
	}
	if _, ok := g.stream(of); !ok {
		return nil, errNoStream
	}
	events, refused, err := accept(events, s.Store.Now(), g)
	if err != nil {
		return nil, err
	}
	out := putResponse{Rejected: refused}
	if len(events) > 0 {
		last, err := s.Store.put(call.Region, name, of, events)
		if err != nil {
			return nil, err
		}
		out.Sequence = last.String()
	}
	return out, nil
}

// events are a batch's, each as it has to be by itself.
func (c *check) events(batch []putEvent) []event {
	switch n := len(batch); {
	case batch == nil:
		c.fail(nil, "logEvents", "not be null")
	case n == 0:
		c.fail("[]", "logEvents", "have length greater than or equal to 1")
	case n > maxEvents:
		c.fail("[...]", "logEvents", "have length less than or equal to %d", maxEvents)
	}
	var events []event
	for i, e := range batch {
		if c.err != nil {
			return nil
		}
		switch at := fmt.Sprintf("logEvents.%d.member.", i+1); {
		case e.Time == nil:
			c.fail(nil, at+"timestamp", "not be null")
		case e.Message == nil:
			c.fail(nil, at+"message", "not be null")
		case *e.Time < 0:
			c.fail(*e.Time, at+"timestamp", "have value greater than or equal to 0")
		case *e.Message == "":
			c.fail("", at+"message", "have length greater than or equal to 1")
		default:
			events = append(events, event{place: place{Time: *e.Time}, Message: *e.Message})
		}
	}
	return events
}

// accept decides what of a batch is stored: all of it, what is neither too old nor too new, or,
// with an error, nothing.
func accept(batch []event, now time.Time, g group) ([]event, *rejected, error) {
	size := 0
	for i, e := range batch {
		n := len(e.Message) + overhead
		if n > maxEvent {
			return nil, nil, invalid("Log event too large: %d bytes exceeds limit of %d", n, maxEvent)
		}
		size += n
		if i > 0 && e.Time < batch[i-1].Time {
			return nil, nil, invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	if size > maxBatch {
		return nil, nil, invalid("Upload too large: %d bytes exceeds limit of %d", size, maxBatch)
	}
	before := func(limit int64) int {
		n, _ := slices.BinarySearchFunc(batch, limit, func(e event, limit int64) int {
			if e.Time < limit {
				return -1
			}
			return 1
		})
		return n
	}
	var refused rejected
	start, end := before(now.Add(-maxAge).UnixMilli()), before(now.Add(maxAhead).UnixMilli()+1)
	if old := start; old > 0 {
		refused.TooOld = &old
	}
	if expired := before(g.expired(now)); expired > start {
		start, refused.Expired = expired, &expired
	}
	if end < len(batch) {
		refused.TooNew = &end
	}
	batch = batch[start:max(start, end)]
	if n := len(batch); n > 0 && batch[n-1].Time-batch[0].Time > maxSpan.Milliseconds() {
		return nil, nil, invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	if refused == (rejected{}) {
		return batch, nil, nil
	}
	return batch, &refused, nil
}
