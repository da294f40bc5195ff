package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// maxPage is how much comes in one answer, in bytes as a batch's are counted.
const maxPage = 1 << 20

// String is a place as an event's ID and in tokens: 56 digits, which sort as places do.
func (p place) String() string { return fmt.Sprintf("3%015d%040d", p.Time, p.Sequence) }

var cursorText = regexp.MustCompile(`^([fb])/3(\d{15})(\d{40})/s$`)

// cursor is where a page begins, and in which direction it goes from there. The event at its
// place is on neither side.
type cursor struct {
	place
	backward bool
}

func (c cursor) String() string {
	direction := "f"
	if c.backward {
		direction = "b"
	}
	return direction + "/" + c.place.String() + "/s"
}

func readCursor(text string) (cursor, error) {
	m := cursorText.FindStringSubmatch(text)
	if m == nil {
		return cursor{}, errToken
	}
	at, err := strconv.ParseInt(m[2], 10, 64)
	sequence, err2 := strconv.ParseInt(m[3], 10, 64)
	if errors.Join(err, err2) != nil {
		return cursor{}, errToken
	}
	return cursor{place{at, sequence}, m[1] == "b"}, nil
}

// other is a cursor in the other direction that leaves out nothing between the two.
func (c cursor) other() cursor {
	c.backward = !c.backward
	if c.backward {
		c.Sequence++
	} else {
		c.Sequence = max(0, c.Sequence-1)
	}
	return c
}

// rest is the part of entries, which are in order, that lies in the cursor's direction.
func rest[E interface{ compare(place) int }](c cursor, entries []E) []E {
	i, found := slices.BinarySearchFunc(entries, c.place, func(e E, p place) int { return e.compare(p) })
	if c.backward {
		return entries[:i]
	}
	if found {
		i++
	}
	return entries[i:]
}

// window is the time that a request asks for, in milliseconds, the end excluded.
type window struct{ start, end int64 }

func (c *check) window(start, end *int64, inclusive int64) window {
	w := window{
		start: c.within("startTime", start, 0, math.MaxInt64, 0),
		end:   c.within("endTime", end, 0, math.MaxInt64, math.MaxInt64),
	}
	w.end = max(w.end, w.end+inclusive) // which overflows where there is no end
	return w
}

// entries are those in the window that have not expired.
func (w window) entries(v view, expired int64) []entry {
	return v.span(place{Time: max(w.start, expired)}, place{Time: w.end})
}

type getRequest struct {
	Group      *string `json:"logGroupName"`
	Identifier *string `json:"logGroupIdentifier"`
	Stream     *string `json:"logStreamName"`
	Start      *int64  `json:"startTime"`
	End        *int64  `json:"endTime"`
	FromHead   bool    `json:"startFromHead"`
	Token      *string `json:"nextToken"`
	Limit      *int64  `json:"limit"`
}

type gotEvent struct {
	Time     int64  `json:"timestamp"`
	Message  string `json:"message"`
	Ingested int64  `json:"ingestionTime"`
}

type getResponse struct {
	Events   []gotEvent `json:"events"`
	Forward  string     `json:"nextForwardToken"`
	Backward string     `json:"nextBackwardToken"`
}

func (s Service) getEvents(call wire.Call, in getRequest) (any, error) {
	var c check
	name, of := s.group(&c, call.Region, in.Group, in.Identifier), c.required("logStreamName", in.Stream, streamName)
	w := c.window(in.Start, in.End, 0)
	token, limit := c.text("nextToken", in.Token, 1, 1<<20, anything), c.within("limit", in.Limit, 1, maxEvents, maxEvents)
	if c.err != nil {
		return nil, c.err
	}
	at := cursor{backward: !in.FromHead}
	if token != "" {
		var err error
		if at, err = readCursor(token); err != nil {
			return nil, err
		}
	} else if at.backward {
		at.place = place{math.MaxInt64, math.MaxInt64}
	}
	g, views, err := s.Store.look(call.Region, name, func(n string) bool { return n == of })
	switch {
	case err != nil:
		return nil, err
	case len(views) == 0:
		return nil, errNoStream
	}
	entries := cut(rest(at, w.entries(views[0], g.expired(s.Store.Now()))), limit, at.backward)
	out := getResponse{Events: []gotEvent{}}
	err = views[0].read(entries, func(e event) bool {
		out.Events = append(out.Events, gotEvent{e.Time, e.Message, e.Ingested})
		return true
	})
	forward, backward := around(at, entries, token != "")
	out.Forward, out.Backward = forward.String(), backward.String()
	return out, err
}

// cut leaves as many entries as fit on a page, from the head or from the tail.
func cut(entries []entry, limit int64, tail bool) []entry {
	n, size := 0, 0
	for n < len(entries) && int64(n) < limit {
		i := n
		if tail {
			i = len(entries) - 1 - n
		}
		if size += entries[i].counts; size > maxPage && n > 0 {
			break
		}
		n++
	}
	if tail {
		return entries[len(entries)-n:]
	}
	return entries[:n]
}

// around are the cursors that go on from a page. One that has led to nothing stays as it is,
// by which a client sees that this is the end.
func around(at cursor, page []entry, given bool) (forward, backward cursor) {
	switch {
	case len(page) > 0:
		return cursor{place: page[len(page)-1].place}, cursor{place: page[0].place, backward: true}
	case !given:
		return cursor{}, cursor{backward: true}
	case at.backward:
		return at.other(), at
	}
	return at, at.other()
}

// read reads events until the function has enough. The stream may have been deleted since.
func (v view) read(entries []entry, take func(event) bool) error {
	if len(entries) == 0 {
		return nil
	}
	in, err := v.open()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	for _, at := range entries {
		e, err := at.read(in)
		if err != nil {
			return err
		}
		if !take(e) {
			break
		}
	}
	return nil
}

func (v view) open() (*os.File, error) {
	in, err := os.Open(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoStream
	}
	if err != nil {
		return nil, fmt.Errorf("open a log stream: %w", err)
	}
	return in, nil
}
