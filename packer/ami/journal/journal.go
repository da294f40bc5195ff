// Package journal remembers what a build makes at AWS. Each thing is written down, and on
// disk, before the call that makes it, so that whatever happens to the process, the next
// one can go on or clear away. A journal exists only while something is unfinished: a
// build that is done, or cleared away, removes its own.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another process has the journal open.
var ErrBusy = errors.New("another build of the same disk is under way")

// Build says which build a journal is of.
type Build struct {
	ID      string    `json:"id"`      // the value of the tag ovenbird.dev/build
	Account string    `json:"account"` // in which it makes things
	Region  string    `json:"region"`  // where the snapshot is made
	Profile string    `json:"profile"` // of the AWS configuration; for sweeping
	Content string    `json:"content"` // the disk's content hash
	Options string    `json:"options"` // a hash of what else decides the image
	Name    string    `json:"name"`    // of the image
	Map     string    `json:"map"`     // path of the disk's block map
	Begun   time.Time `json:"begun"`
}

// Kinds of Resource.
const (
	Snapshot  = "snapshot"
	Image     = "image"
	Parameter = "parameter"
)

// Resource is something at AWS: Kind, Region and, for a parameter, Name tell which.
type Resource struct {
	Kind   string `json:"kind"`
	Region string `json:"region"`
	Name   string `json:"name,omitempty"` // an image's or a parameter's
	// ID is empty until AWS has said it: the resource may exist all the same.
	ID           string    `json:"id,omitempty"`
	Token        string    `json:"token,omitempty"`        // the client token it was asked for with
	Parent       string    `json:"parent,omitempty"`       // a snapshot's
	Snapshots    []string  `json:"snapshots,omitempty"`    // an image's
	Previous     *string   `json:"previous,omitempty"`     // a parameter's value before; nil when there was none
	PreviousType string    `json:"previousType,omitempty"` // the data type of Previous
	Done         bool      `json:"done,omitempty"`         // nothing is left to do about it
	Time         time.Time `json:"time"`
}

func (r Resource) same(other Resource) bool {
	return r.Kind == other.Kind && r.Region == other.Region && (r.Kind != Parameter || r.Name == other.Name)
}

// line is one line of the file; exactly one field is set.
type line struct {
	Build *Build    `json:"build,omitempty"`
	Have  *Resource `json:"have,omitempty"`
	Gone  *Resource `json:"gone,omitempty"`
	Block *int32    `json:"block,omitempty"`
}

// Journal is an open journal, which no other process can open.
type Journal struct {
	path string

	mu        sync.Mutex
	file      *os.File
	end       int64 // of what is written whole
	build     Build
	resources []Resource // in the order in which they were first recorded
	blocks    bitmap
}

// Open opens the journal at path, which is made with its directory when there is none. The
// error is ErrBusy when another process has it.
func Open(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("journal %s: %w", path, ErrBusy)
			}
			return nil, fmt.Errorf("lock journal %s: %w", path, err)
		}
		// Its last owner may have removed the file between the two calls.
		if !present(f, path) {
			f.Close()
			continue
		}
		j := &Journal{path: path, file: f}
		if err := j.replay(); err != nil {
			f.Close()
			return nil, err
		}
		return j, nil
	}
}

// Peek reads which build a journal is of, also when another process has it.
func Peek(path string) (Build, error) {
	f, err := os.Open(path)
	if err != nil {
		return Build{}, fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	text, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return Build{}, fmt.Errorf("read journal %s: %w", path, err)
	}
	j := &Journal{path: path}
	err = j.apply(text)
	return j.build, err
}

func present(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// replay reads the file. A last line that was cut off was never acted on: it is removed.
func (j *Journal) replay() error {
	r := bufio.NewReader(j.file)
	for number := 1; ; number++ {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read journal %s: %w", j.path, err)
		}
		if err := j.apply(text); err != nil {
			return fmt.Errorf("read journal %s, line %d: %w; it says what to remove at AWS by hand if it cannot be mended", j.path, number, err)
		}
		j.end += int64(len(text))
	}
	return j.mend()
}

// mend cuts off what was not written whole.
func (j *Journal) mend() error {
	if err := j.file.Truncate(j.end); err != nil {
		return fmt.Errorf("mend journal: %w", err)
	}
	if _, err := j.file.Seek(j.end, io.SeekStart); err != nil {
		return fmt.Errorf("mend journal: %w", err)
	}
	return nil
}

func (j *Journal) apply(text []byte) error {
	// Nearly all lines are blocks.
	if rest, ok := bytes.CutPrefix(text, []byte(`{"block":`)); ok {
		index, err := strconv.ParseInt(string(bytes.TrimSuffix(rest, []byte("}\n"))), 10, 32)
		if err != nil || index < 0 {
			return fmt.Errorf("%q is not a block", text)
		}
		j.blocks.set(int32(index))
		return nil
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	switch {
	case l.Build != nil:
		j.build = *l.Build
	case l.Have != nil:
		j.keep(*l.Have)
	case l.Gone != nil:
		j.drop(*l.Gone)
	}
	return nil
}

func (j *Journal) keep(r Resource) {
	at := slices.IndexFunc(j.resources, r.same)
	if at < 0 {
		j.resources = append(j.resources, r)
		return
	}
	j.resources[at] = r
}

// drop forgets a resource, and with a snapshot the blocks that were written to it.
func (j *Journal) drop(r Resource) {
	j.resources = slices.DeleteFunc(j.resources, r.same)
	if r.Kind == Snapshot {
		j.blocks = nil
	}
}

// write appends a line; the mutex is held.
func (j *Journal) write(l line, sync bool) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	n, err := j.file.Write(append(text, '\n'))
	if err != nil {
		return errors.Join(fmt.Errorf("write journal: %w", err), j.mend())
	}
	j.end += int64(n)
	if !sync {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Begin records which build this is.
func (j *Journal) Begin(b Build) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.build = b
	if err := j.write(line{Build: &b}, true); err != nil {
		return err
	}
	// The name of a new file is in its directory only when that is on disk too.
	return syncDir(filepath.Dir(j.path))
}

// Build is the build that was begun; its ID is empty when none was.
func (j *Journal) Build() Build {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.build
}

// Have records a resource, on disk when it returns: before the call that makes it, and
// again when more is known.
func (j *Journal) Have(r Resource) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	j.keep(r)
	return j.write(line{Have: &r}, true)
}

// Gone records that a resource is there no longer.
func (j *Journal) Gone(r Resource) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drop(r)
	return j.write(line{Gone: &r}, true)
}

// Find returns what is recorded of a kind in a region; name matters for parameters only.
func (j *Journal) Find(kind, region, name string) (Resource, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := slices.IndexFunc(j.resources, Resource{Kind: kind, Region: region, Name: name}.same)
	if at < 0 {
		return Resource{}, false
	}
	return j.resources[at], true
}

// Resources are all that is recorded, in the order in which it was made.
func (j *Journal) Resources() []Resource {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.resources)
}

// Sent records that the snapshot has a block. It survives the process, not a power cut,
// after which some blocks are sent again.
func (j *Journal) Sent(index int32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.blocks.set(index)
	return j.write(line{Block: &index}, false)
}

// WasSent tells whether the snapshot has a block.
func (j *Journal) WasSent(index int32) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.blocks.has(index)
}

// Close lets another process have the journal.
func (j *Journal) Close() error { return j.file.Close() }

// Remove removes the journal and closes it: nothing is unfinished.
func (j *Journal) Remove() error {
	defer j.file.Close()
	if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return syncDir(filepath.Dir(j.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// bitmap is a set of block indices: at most 16 MiB, for 64 TiB.
type bitmap []byte

func (b *bitmap) set(index int32) {
	if at := int(index / 8); at >= len(*b) {
		*b = append(*b, make([]byte, at+1-len(*b))...)
	}
	(*b)[index/8] |= 1 << (index % 8)
}

func (b bitmap) has(index int32) bool {
	return int(index/8) < len(b) && b[index/8]&(1<<(index%8)) != 0
}
