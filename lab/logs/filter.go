package logs

import (
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// descendingSince is since when FilterLogEvents can start from the tail, by its reference.
var descendingSince = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

type filterRequest struct {
	Group       *string  `json:"logGroupName"`
	Identifier  *string  `json:"logGroupIdentifier"`
	Streams     []string `json:"logStreamNames"`
	Prefix      *string  `json:"logStreamNamePrefix"`
	Pattern     *string  `json:"filterPattern"`
	Start       *int64   `json:"startTime"`
	End         *int64   `json:"endTime"`
	FromHead    *bool    `json:"startFromHead"`
	Interleaved bool     `json:"interleaved"` // always so since 2019, by the reference
	Token       *string  `json:"nextToken"`
	Limit       *int64   `json:"limit"`
}

type filteredEvent struct {
	gotEvent
	Stream string `json:"logStreamName"`
	ID     string `json:"eventId"`
}

type filterResponse struct {
	Events   []filteredEvent `json:"events"`
	Searched []struct{}      `json:"searchedLogStreams"` // empty since 2020, by the reference
	Token    string          `json:"nextToken,omitempty"`
}

// search is a request of FilterLogEvents that makes sense.
type search struct {
	group string
	window
	wanted func(stream string) bool
	terms  []string
	at     cursor
	limit  int64
	listing
}

func (s Service) filterEvents(call wire.Call, in filterRequest) (any, error) {
	q, err := s.search(call.Region, in)
	if err != nil {
		return nil, err
	}
	g, views, err := s.Store.look(call.Region, q.group, q.wanted)
	if err != nil {
		return nil, err
	}
	for _, name := range in.Streams {
		if !slices.ContainsFunc(views, func(v view) bool { return v.Name == name }) {
			return nil, errNoStream
		}
	}
	return q.carryOut(views, g.expired(s.Store.Now()))
}

// search reads the request.
func (s Service) search(region string, in filterRequest) (search, error) {
	var c check
	q := search{group: s.group(&c, region, in.Group, in.Identifier), window: c.window(in.Start, in.End, 1)}
	prefix, pattern := c.text("logStreamNamePrefix", in.Prefix, 1, maxName, streamName), c.text("filterPattern", in.Pattern, 0, 1024, anything)
	token := c.text("nextToken", in.Token, 1, 1<<20, anything)
	q.limit = c.within("limit", in.Limit, 1, maxEvents, maxEvents)
	for _, name := range in.Streams {
		c.text("logStreamNames", &name, 1, maxName, streamName)
	}
	backward := in.FromHead != nil && !*in.FromHead
	switch {
	case c.err != nil:
		return q, c.err
	case in.Streams != nil && (len(in.Streams) < 1 || len(in.Streams) > 100):
		return q, invalid("1 validation error detected: Value at 'logStreamNames' failed to satisfy constraint: Member must have length between 1 and 100")
	case in.Streams != nil && prefix != "":
		return q, invalid("Either logStreamNames or logStreamNamePrefix can be given, but not both.")
	case backward && token == "" && q.start < descendingSince:
		return q, invalid("startFromHead can be false only with a startTime on or after January 1, 2024.")
	}
	q.wanted = func(name string) bool {
		return strings.HasPrefix(name, prefix) && (in.Streams == nil || slices.Contains(in.Streams, name))
	}
	q.listing = listingOf("events", region, q.group, in.Streams, prefix, pattern, q.start, q.end)
	if q.at.backward = backward; backward {
		q.at.place = place{math.MaxInt64, math.MaxInt64}
	}
	var err error
	if q.terms, err = terms(pattern); err == nil && token != "" {
		q.at, err = q.cursor(token)
	}
	return q, err
}

func (l listing) cursor(token string) (cursor, error) {
	text, err := l.after(token)
	if err != nil {
		return cursor{}, err
	}
	return readCursor(text)
}

// candidate is an event of one of the streams that are searched.
type candidate struct {
	entry
	stream int
}

// carryOut goes through the events of all streams in their order until a page is full.
func (q search) carryOut(views []view, expired int64) (any, error) {
	var all []candidate
	for i, v := range views {
		for _, e := range q.entries(v, expired) {
			all = append(all, candidate{e, i})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return a.compare(b.place) })
	all = rest(q.at, all)
	if q.at.backward {
		slices.Reverse(all)
	}
	files := make([]*os.File, len(views))
	defer func() {
		for _, f := range files {
			_ = f.Close() // of those that are nil too
		}
	}()
	out, size := filterResponse{Events: []filteredEvent{}, Searched: []struct{}{}}, 0
	for i, at := range all {
		v := views[at.stream]
		if files[at.stream] == nil {
			var err error
			if files[at.stream], err = v.open(); err != nil {
				return nil, err
			}
		}
		e, err := at.read(files[at.stream])
		if err != nil {
			return nil, err
		}
		if !matches(e.Message, q.terms) {
			continue
		}
		if size += at.counts; size > maxPage && len(out.Events) > 0 || int64(len(out.Events)) == q.limit {
			out.Token = q.token(cursor{all[i-1].place, q.at.backward}.String())
			break
		}
		out.Events = append(out.Events, filteredEvent{gotEvent{e.Time, e.Message, e.Ingested}, v.Name, at.String()})
	}
	return out, nil
}
