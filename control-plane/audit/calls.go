package audit

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// throttled is the outcome of a call that came too soon after others.
	throttled = "429"
	// tallyFor is how long throttled calls are counted before they become events.
	tallyFor = time.Minute
	// maxSources bounds how many addresses are told apart meanwhile; others are one.
	maxSources   = 1000
	otherSources = "others"
)

// Calls is the record of an API that strangers can reach. What it refuses to callers whom it
// does not know goes to a file of its own, so that no number of refusals pushes out what
// known callers did. Of throttled calls there is one event a source and minute, with their
// count. It is safe for concurrent use.
type Calls struct {
	known, refused *File

	mu     sync.Mutex
	tally  map[string]*Event // by source
	ending *time.Timer       // of the tally; nil while there is none
}

// OpenCalls records known callers in known, which stays the caller's to close, and continues
// the record of the others at path.
func OpenCalls(known *File, path string, log *zap.Logger) (*Calls, error) {
	refused, err := Open(path, log)
	if err != nil {
		return nil, err
	}
	return &Calls{known: known, refused: refused, tally: map[string]*Event{}}, nil
}

// Record writes the event of a call, or counts it.
func (c *Calls) Record(e Event) {
	switch {
	case e.Outcome == throttled:
		c.count(e)
	case e.Principal == "":
		c.refused.Record(e)
	default:
		c.known.Record(e)
	}
}

// Close writes what has been counted, and ends the record of refusals.
func (c *Calls) Close() error {
	c.conclude()
	return c.refused.Close()
}

func (c *Calls) count(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil {
		c.ending = time.AfterFunc(tallyFor, c.conclude)
	}
	if c.tally[e.Source] == nil && len(c.tally) >= maxSources {
		e.Source = otherSources
	}
	first := c.tally[e.Source]
	if first == nil {
		first = &Event{Time: e.Time, Source: e.Source, Outcome: e.Outcome, Reason: e.Reason}
		c.tally[e.Source] = first
	}
	first.Count++
}

func (c *Calls) conclude() {
	c.mu.Lock()
	tally := c.tally
	if c.ending != nil {
		c.ending.Stop()
	}
	c.tally, c.ending = map[string]*Event{}, nil
	c.mu.Unlock()
	for _, e := range tally {
		c.refused.Record(*e)
	}
}
