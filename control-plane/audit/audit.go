// Package audit keeps the record of decisions: who asked for what, how that was proved and
// what came of it. Each decision is one line of JSON in a file that only its owner may read,
// and one entry of the service's log.
//
// Events never hold a token, a key or a signature. A record that cannot be written is an
// error in the log, which then has the event; it never fails the call that it is about.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	fileMode = 0o600
	// maxSize and kept bound what the record takes: about 300 MB.
	maxSize = 50 << 20
	kept    = 5 // files before the current one
	// rotateAgain is when to try again to put a full file aside.
	rotateAgain = time.Minute
)

// Event is one decision. Fields that do not apply are empty.
type Event struct {
	Time      time.Time     `json:"time"`
	RequestID string        `json:"requestId,omitempty"`
	Source    string        `json:"source,omitempty"`    // address of the caller
	Principal string        `json:"principal,omitempty"` // ARN as STS gives it, session included
	Proof     string        `json:"proof,omitempty"`     // how the principal was proved: "sigv4", "bearer"
	Operation string        `json:"operation,omitempty"` // "eks:CreateCluster"
	Resource  string        `json:"resource,omitempty"`  // ARN, or "*"
	Outcome   string        `json:"outcome"`             // "200", "approved"
	Reason    string        `json:"reason,omitempty"`    // the exception's name, or why not
	Duration  time.Duration `json:"durationNanoseconds,omitempty"`
	Count     int           `json:"count,omitempty"` // of the calls that the event stands for, where it is not one
}

// File is a record in a file. It is safe for concurrent use.
type File struct {
	path string
	size int64 // at which a new file is begun
	log  *zap.Logger

	mu      sync.Mutex
	current *os.File
	written int64
	retry   time.Time // no rotation before this
}

// Open continues the record at path, or begins it. Events go to log as well.
func Open(path string, log *zap.Logger) (*File, error) {
	f := &File{path: path, size: maxSize, log: log}
	var err error
	f.current, f.written, err = open(path)
	return f, err
}

// Record writes one event.
func (f *File) Record(e Event) {
	count := zap.Skip()
	if e.Count > 0 {
		count = zap.Int("count", e.Count)
	}
	f.log.Info("decision", zap.Time("at", e.Time), zap.String("requestID", e.RequestID), zap.String("source", e.Source),
		zap.String("principal", e.Principal), zap.String("proof", e.Proof), zap.String("operation", e.Operation),
		zap.String("resource", e.Resource), zap.String("outcome", e.Outcome), zap.String("reason", e.Reason), zap.Duration("duration", e.Duration), count)
	if err := f.write(e); err != nil {
		f.log.Error("a decision is missing from the audit record", zap.String("requestID", e.RequestID), zap.Error(err))
	}
}

// Close ends the record. Events that come later are in the log alone.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.Close()
}

func (f *File) write(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	line = append(line, '\n')
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.written > 0 && f.written+int64(len(line)) > f.size {
		f.rotate(time.Now())
	}
	if n, err := f.current.Write(line); err != nil {
		if n > 0 { // a full disk: the next event must not continue half a line
			_ = f.current.Truncate(f.written)
		}
		return err
	}
	f.written += int64(len(line))
	return nil
}

func open(path string) (file *os.File, size int64, err error) {
	file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return nil, 0, fmt.Errorf("open the audit record: %w", err)
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Chmod(fileMode) // whatever it was before
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open the audit record: %w", err), file.Close())
	}
	return file, info.Size(), nil
}

// rotate begins a new file. One that cannot be begun is an error in the log, and the full one
// grows on.
func (f *File) rotate(now time.Time) {
	if now.Before(f.retry) {
		return
	}
	fresh, size, err := open(f.path + ".new")
	if err == nil {
		if err = f.putAside(); err != nil {
			err = errors.Join(err, fresh.Close())
		}
	}
	if err != nil {
		f.retry = now.Add(rotateAgain)
		f.log.Error("the audit record is full and cannot be put aside", zap.Error(err))
		return
	}
	_ = f.current.Close() // every line is written
	f.current, f.written = fresh, size
}

// putAside makes path path.1, path.1 path.2 and so on, and path.new path; the oldest is lost.
// After an error there may be a gap in the chain, which the next try uses before it loses any.
func (f *File) putAside() error {
	for i := kept; i > 1; i-- {
		if err := os.Rename(f.aside(i-1), f.aside(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put the audit record aside: %w", err)
		}
	}
	if err := os.Rename(f.path, f.aside(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put the audit record aside: %w", err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		return errors.Join(fmt.Errorf("begin the audit record: %w", err), os.Rename(f.aside(1), f.path))
	}
	return nil
}

func (f *File) aside(i int) string { return fmt.Sprintf("%s.%d", f.path, i) }
