package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// record is what one service leaves for the next to know a process by.
type record struct {
	PID     int      `json:"pid"`
	Boot    string   `json:"boot"`    // of the machine, since numbers start again with it
	Started uint64   `json:"started"` // ticks after boot, as in /proc/PID/stat
	Args    []string `json:"args"`
	Digest  string   `json:"digest"` // of the description it was started from
}

// verdict says what a record means now.
type verdict int

const (
	over   verdict = iota // the recorded process has ended
	adopt                 // it runs as wanted
	differ                // it runs, from another description
)

// judge compares the record with what /proc says about its process number (nil: nothing).
func (r record) judge(boot string, now *info, digest string) verdict {
	switch {
	case now == nil, r.Boot != boot, r.Started != now.started, now.zombie, !slices.Equal(r.Args, now.args):
		return over
	case r.Digest != digest:
		return differ
	}
	return adopt
}

// remember writes the record of a process just started.
func remember(path string, pid int, args []string, digest string) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	now, err := inspect(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{PID: pid, Boot: boot, Started: now.started, Args: args, Digest: digest})
	if err != nil {
		return fmt.Errorf("encode record of process %d: %w", pid, err)
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("record process %d: %w", pid, err)
	}
	return nil
}

// recall returns the process that path records, if it still runs, and whether it was
// started from the description that digest stands for.
func recall(path, digest string) (p *process, asWanted bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read process record: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, false, nil //nolint:nilerr // a damaged record is none: a live process is still found by its marker
	}
	boot, err := bootID()
	if err != nil {
		return nil, false, err
	}
	p, err = attach(r.PID)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	now, err := inspect(r.PID)
	if err != nil {
		now = nil
	}
	switch r.judge(boot, now, digest) {
	case adopt:
		return p, true, nil
	case differ:
		return p, false, nil
	default:
		return nil, false, nil
	}
}

func (u *unit) recordPath() string {
	return filepath.Join(u.supervisor.dir, u.component.Name+".pid")
}

func (u *unit) logPath() string {
	return filepath.Join(u.supervisor.dir, u.component.Name+".log")
}
