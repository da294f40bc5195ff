package logs

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// place is where an event stands among others: they are ordered by the time at which they
// happened, and then as they came in.
type place struct {
	Time     int64 `json:"time"`     // milliseconds since 1970
	Sequence int64 `json:"sequence"` // the same for no two events
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.Time, other.Time), cmp.Compare(p.Sequence, other.Sequence))
}

// event is one as its line has it.
type event struct {
	place
	Ingested int64  `json:"ingested"` // milliseconds since 1970
	Message  string `json:"message"`
}

// overhead is what an event counts besides its message, in bytes, by PutLogEvents' reference.
const overhead = 26

// entry is what is kept of an event in memory: where to read it.
type entry struct {
	place
	ingested     int64
	offset       int64
	line, counts int // bytes, of the line and by CloudWatch's way to count
}

// file is the events of a stream, in the order in which they came in. A copy of one stays as
// it is.
type file struct {
	path    string
	size    int64
	counts  int64   // bytes by CloudWatch's way to count
	entries []entry // by place
}

// open reads the file, if it is there, and cuts off an unfinished last line. It answers the
// highest sequence number.
func (f *file) open() (last int64, err error) {
	in, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	lines := bufio.NewReader(in)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, fmt.Errorf("line %d of %s: %w", n, f.path, err)
		}
		f.entries = append(f.entries, entryOf(e, f.size, len(line)))
		f.size += int64(len(line))
		f.counts += int64(len(e.Message) + overhead)
		last = max(last, e.Sequence)
	}
	slices.SortFunc(f.entries, func(a, b entry) int { return a.compare(b.place) })
	return last, in.Truncate(f.size)
}

func entryOf(e event, offset int64, line int) entry {
	return entry{place: e.place, ingested: e.Ingested, offset: offset, line: line, counts: len(e.Message) + overhead}
}

// append adds events, which are in order, or leaves the file as it was.
func (f *file) append(events []event) (err error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	made := make([]entry, 0, len(events))
	for _, e := range events {
		start := lines.Len()
		if err := encoder.Encode(e); err != nil {
			return err
		}
		made = append(made, entryOf(e, f.size+int64(start), lines.Len()-start))
	}
	out, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = out.WriteAt(lines.Bytes(), f.size)
	if err != nil {
		err = errors.Join(err, out.Truncate(f.size))
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	f.size += int64(lines.Len())
	for _, e := range made {
		f.counts += int64(e.counts)
	}
	f.entries = merge(f.entries, made)
	return nil
}

// merge puts entries among others. It touches none of the old ones, which readers may have.
func merge(old, made []entry) []entry {
	if len(old) == 0 || old[len(old)-1].compare(made[0].place) < 0 {
		return append(old, made...)
	}
	all := slices.Concat(old, made)
	slices.SortFunc(all, func(a, b entry) int { return a.compare(b.place) })
	return all
}

// span is the entries from one place to before another.
func (f file) span(from, to place) []entry {
	by := func(e entry, p place) int { return e.compare(p) }
	first, _ := slices.BinarySearchFunc(f.entries, from, by)
	end, _ := slices.BinarySearchFunc(f.entries, to, by)
	return f.entries[first:max(first, end)]
}

// read reads the event of an entry.
func (e entry) read(from io.ReaderAt) (event, error) {
	var out event
	line := make([]byte, e.line)
	if _, err := from.ReadAt(line, e.offset); err != nil {
		return out, fmt.Errorf("read a log event: %w", err)
	}
	if err := json.Unmarshal(line, &out); err != nil {
		return out, fmt.Errorf("read a log event: %w", err)
	}
	return out, nil
}
