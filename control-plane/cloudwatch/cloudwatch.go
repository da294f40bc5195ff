// Package cloudwatch sends logs to Amazon CloudWatch Logs as they grow: files that somebody else
// writes and rotates, and the systemd journal. Where it has got to is kept on disk, so that what
// is written while CloudWatch or the service is away follows later. A line may come twice, after
// a crash between its delivery and the note of that; it is lost only when its file is rotated
// away before it could be sent, and then another line says so in its place.
package cloudwatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"time"

	"github.com/google/renameio/v2"
	"go.uber.org/zap"
)

const (
	// pause is how long to wait before the next look at the logs.
	pause = 2 * time.Second
	// longestPause bounds it while deliveries fail.
	longestPause = time.Minute
	// roundTimeout bounds what one log may take before the next one has its turn.
	roundTimeout = time.Minute
	// sayAgain is how often a failure that goes on is told.
	sayAgain = 10 * time.Minute
)

// Log is one that is sent, to a stream of a group.
type Log struct {
	Group, Stream string
	// MakeGroup has the group made when it is missing.
	MakeGroup bool
	Source    Source
}

func (l Log) name() string { return l.Group + " " + l.Stream }

// Source is a log that grows.
type Source interface {
	// Read returns some of what follows a position, and the position after that. No lines means that
	// there are no more for now.
	Read(ctx context.Context, after Position) ([]Line, Position, error)
}

// Line is one event. Its text has no line feed at the end.
type Line struct {
	Time time.Time
	Text string
}

// Position is how far a source was read; the zero value is its beginning. A Journal uses the last
// field and a File the others.
type Position struct {
	Path   string `json:"path,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Seen   int64  `json:"seen,omitempty"` // when the file had last been written to, in nanoseconds since 1970
	Cursor string `json:"cursor,omitempty"`
}

// Options are what a Shipper works with.
type Options struct {
	Client Client
	// Logs are those that are to be sent now, with an error if there may be more.
	Logs func(context.Context) ([]Log, error)
	// Path is a file for the positions.
	Path string
	Log  *zap.Logger
}

// Shipper sends logs.
type Shipper struct {
	Options
	positions map[string]Position // by the log's name
	saved     map[string]Position // as the file has them
	told      time.Time           // when a failure that goes on was told last; zero: none does
}

// Run sends logs until ctx ends. Nothing that fails ends it.
func Run(ctx context.Context, o Options) {
	s := &Shipper{Options: o, positions: map[string]Position{}}
	if err := s.load(); err != nil {
		o.Log.Error("begin every log anew", zap.Error(err))
	}
	for wait := pause; ; {
		err := s.round(ctx)
		if ctx.Err() != nil {
			return
		}
		s.tell(err)
		if err == nil {
			wait = pause
		} else {
			wait = min(2*wait, longestPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // jitter is no secret
		}
	}
}

// tell logs a failure, and again from time to time while it goes on.
func (s *Shipper) tell(err error) {
	switch {
	case err == nil && !s.told.IsZero():
		s.told = time.Time{}
		s.Log.Info("logs reach CloudWatch again")
	case err != nil && time.Since(s.told) > sayAgain:
		s.told = time.Now()
		s.Log.Warn("logs do not reach CloudWatch, and follow later", zap.Error(err))
	}
}

// round sends what has come since the last one. What fails for one log does not hold up the others.
func (s *Shipper) round(ctx context.Context) error {
	logs, failed := s.Logs(ctx)
	complete := failed == nil
	for _, l := range logs {
		if err := s.send(ctx, l); err != nil && failed == nil {
			failed = fmt.Errorf("stream %s of log group %s: %w", l.Stream, l.Group, err)
		}
	}
	if complete {
		s.forget(logs)
	}
	// Once for all of them: etcd waits for each write to the same volume.
	if err := s.save(); err != nil && failed == nil {
		failed = err
	}
	return failed
}

// send sends what there is of one log.
func (s *Shipper) send(ctx context.Context, l Log) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	for ctx.Err() == nil {
		lines, next, err := l.Source.Read(ctx, s.positions[l.name()])
		if err != nil {
			return err
		}
		if len(lines) == 0 && next == s.positions[l.name()] {
			return nil
		}
		if err := s.deliver(ctx, l, lines); err != nil {
			return err
		}
		s.positions[l.name()] = next
	}
	return nil // the rest has its turn in the next round
}

// forget drops the positions of logs that are neither sent nor there any more: files that are
// gone, and the journal of a machine that was the host before.
func (s *Shipper) forget(logs []Log) {
	sent := map[string]bool{}
	for _, l := range logs {
		sent[l.name()] = true
	}
	for name, position := range s.positions {
		if _, err := os.Stat(position.Path); !sent[name] && errors.Is(err, fs.ErrNotExist) {
			delete(s.positions, name)
		}
	}
}

func (s *Shipper) save() error {
	if maps.Equal(s.positions, s.saved) {
		return nil
	}
	data, err := json.Marshal(s.positions)
	if err == nil {
		err = renameio.WriteFile(s.Path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note how far logs were sent: %w", err)
	}
	s.saved = maps.Clone(s.positions)
	return nil
}

func (s *Shipper) load() error {
	data, err := os.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.positions)
	}
	if err != nil {
		s.positions = map[string]Position{}
		return fmt.Errorf("read how far logs were sent: %w", err)
	}
	return nil
}
