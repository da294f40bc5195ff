package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// Errors that the service words.
var (
	errExists    = errors.New("it exists")
	errNoGroup   = errors.New("no such log group")
	errNoStream  = errors.New("no such log stream")
	errProtected = errors.New("the log group is protected")
)

// group is what is recorded of a log group. Its values are not changed in place.
type group struct {
	Region    string            `json:"region"`
	Name      string            `json:"name"`
	Created   int64             `json:"created"`             // milliseconds since 1970
	Retention int               `json:"retention,omitempty"` // days; 0: events do not expire
	Key       string            `json:"key,omitempty"`       // of KMS; nothing is encrypted
	Protected bool              `json:"protected,omitempty"` // from deletion
	Tags      map[string]string `json:"tags,omitempty"`
	Token     string            `json:"token,omitempty"` // of the stack's request that made it
	Streams   []stream          `json:"streams,omitempty"`
}

// stream is what is recorded of a log stream. Its events are in the file that ID names, which
// is there from the first of them on.
type stream struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Created int64  `json:"created"`
}

func (g group) stream(name string) (stream, bool) {
	i := slices.IndexFunc(g.Streams, func(s stream) bool { return s.Name == name })
	if i < 0 {
		return stream{}, false
	}
	return g.Streams[i], true
}

// expired is the time before which the group's events are gone.
func (g group) expired(now time.Time) int64 {
	if g.Retention == 0 {
		return 0
	}
	return now.Add(-time.Duration(g.Retention) * 24 * time.Hour).UnixMilli()
}

// Store is the log groups of all regions, their streams and events: one file of groups and
// streams that is written whole, and one a stream that its events are appended to, a JSON
// object a line. It is safe for concurrent use.
type Store struct {
	Dir string // made by Open
	Now func() time.Time

	mu     sync.Mutex
	groups []group
	files  map[string]*file // by the stream's ID
	last   int64            // sequence number of an event
}

func (s *Store) record() string { return filepath.Join(s.Dir, "groups.json") }

// suffix is that of streams' files.
const suffix = ".jsonl"

func (s *Store) path(id string) string { return filepath.Join(s.Dir, id+suffix) }

// Open reads what is in the directory. A last line that a killed daemon left unfinished is
// cut off, and the file of a stream that is gone is removed.
func (s *Store) Open() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the logs: %w", err)
	}
	s.files = map[string]*file{}
	data, err := os.ReadFile(s.record())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the log groups: %w", err)
	default:
		if err := json.Unmarshal(data, &s.groups); err != nil {
			return fmt.Errorf("read the log groups from %s: %w", s.record(), err)
		}
	}
	for _, g := range s.groups {
		for _, of := range g.Streams {
			f := &file{path: s.path(of.ID)}
			last, err := f.open()
			if err != nil {
				return fmt.Errorf("read the log stream %s of %s: %w", of.Name, g.Name, err)
			}
			s.files[of.ID], s.last = f, max(s.last, last)
		}
	}
	return s.sweep()
}

// sweep removes the files of streams that are not on record.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("list the log streams: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if _, known := s.files[id]; ok && !known {
			if err := os.Remove(s.path(id)); err != nil {
				return fmt.Errorf("remove a log stream that is gone: %w", err)
			}
		}
	}
	return nil
}

// change alters the groups and saves them, or leaves them as they were. It needs the lock.
func (s *Store) change(alter func([]group) ([]group, error)) error {
	next, err := alter(slices.Clone(s.groups))
	if err == nil {
		err = state.WriteJSON(s.record(), next, 0o600)
	}
	if err == nil {
		s.groups = next
	}
	return err
}

func find(groups []group, region, name string) int {
	return slices.IndexFunc(groups, func(g group) bool { return g.Region == region && g.Name == name })
}

// get finds a group.
func (s *Store) get(region, name string) (group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := find(s.groups, region, name)
	if i < 0 {
		return group{}, errNoGroup
	}
	return s.groups[i], nil
}

// list is the groups of a region, by their names.
func (s *Store) list(region string) []group {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []group
	for _, g := range s.groups {
		if g.Region == region {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b group) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// create makes a group. The same token makes it once.
func (s *Store) create(made group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(func(groups []group) ([]group, error) {
		if i := find(groups, made.Region, made.Name); i >= 0 {
			if made.Token == "" || groups[i].Token != made.Token {
				return nil, errExists
			}
			return groups, nil
		}
		made.Created = s.Now().UnixMilli()
		return append(groups, made), nil
	})
}

// amend changes a group.
func (s *Store) amend(region, name string, alter func(*group) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(func(groups []group) ([]group, error) {
		i := find(groups, region, name)
		if i < 0 {
			return nil, errNoGroup
		}
		return groups, alter(&groups[i])
	})
}

// createStream makes a stream.
func (s *Store) createStream(region, name, of string) error {
	return s.amend(region, name, func(g *group) error {
		if _, ok := g.stream(of); ok {
			return errExists
		}
		made := stream{Name: of, ID: uuid.NewString(), Created: s.Now().UnixMilli()}
		g.Streams = append(slices.Clip(g.Streams), made)
		s.files[made.ID] = &file{path: s.path(made.ID)}
		return nil
	})
}

// remove removes a group with its streams. Once it is off the record it is gone: what a killed
// daemon leaves of its files goes with the next one's sweep.
func (s *Store) remove(region, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone group
	err := s.change(func(groups []group) ([]group, error) {
		i := find(groups, region, name)
		switch {
		case i < 0:
			return nil, errNoGroup
		case groups[i].Protected:
			return nil, errProtected
		}
		gone = groups[i]
		return slices.Delete(groups, i, i+1), nil
	})
	if err != nil {
		return err
	}
	for _, of := range gone.Streams {
		delete(s.files, of.ID)
		if err := os.Remove(s.path(of.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the log stream %s: %w", of.Name, err)
		}
	}
	return nil
}

// put appends events to a stream, and answers the place of the last of them.
func (s *Store) put(region, name, of string, events []event) (place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := find(s.groups, region, name)
	if i < 0 {
		return place{}, errNoGroup
	}
	to, ok := s.groups[i].stream(of)
	if !ok {
		return place{}, errNoStream
	}
	now := s.Now().UnixMilli()
	for i := range events {
		events[i].Sequence, events[i].Ingested = s.last+int64(i)+1, now
	}
	if err := s.files[to.ID].append(events); err != nil {
		return place{}, fmt.Errorf("write the log stream %s of %s: %w", of, name, err)
	}
	s.last += int64(len(events))
	return events[len(events)-1].place, nil
}

// view is a stream as it was at one moment. Its events can be read as long as the stream is
// there.
type view struct {
	stream
	file
}

// look finds a group and those of its streams that are wanted.
func (s *Store) look(region, name string, wanted func(string) bool) (group, []view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := find(s.groups, region, name)
	if i < 0 {
		return group{}, nil, errNoGroup
	}
	var views []view
	for _, of := range s.groups[i].Streams {
		if wanted(of.Name) {
			views = append(views, view{of, *s.files[of.ID]})
		}
	}
	return s.groups[i], views, nil
}

// stored is how much a group holds, in bytes as CloudWatch counts them.
func (s *Store) stored(g group) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64
	for _, of := range g.Streams {
		if f, ok := s.files[of.ID]; ok {
			sum += f.counts
		}
	}
	return sum
}
