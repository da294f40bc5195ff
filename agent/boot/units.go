package boot

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// Units is the service manager. Starting is safe to repeat.
type Units interface {
	Reload(ctx context.Context) error
	ReloadNetwork(ctx context.Context) error
	Start(ctx context.Context, unit string) error
	Restart(ctx context.Context, unit string) error
}

// The units, by systemd's names; and a name for systemd itself.
const (
	manager        = "systemd"
	containerdUnit = "containerd.service"
	kubeletUnit    = "kubelet.service"
	hostUnit       = "ovenbird-host.service"
	serviceUnit    = "ovenbird.service"
	resolverUnit   = "systemd-resolved.service"
	networkUnit    = "systemd-networkd.service"
)

// stale marks that unit has not read its files since they changed.
func stale(unit string) rootfs.File {
	return rootfs.File{Path: "/run/ovenbird/" + unit + ".stale", Data: []byte{}}
}

// markStale marks unit if files are about to change. The mark comes before the change: a
// mark too many costs a restart, a missing one leaves a unit with what was.
func (n *node) markStale(unit string, files []rootfs.File) error {
	if n.Root.UpToDate(files...) {
		return nil
	}
	return n.Root.Apply(stale(unit))
}

// startUnit makes unit run with the files that are there: a fresh process if they changed.
func (n *node) startUnit(unit string) func(context.Context, func(string)) error {
	return func(ctx context.Context, _ func(string)) error {
		err := n.refresh(unit,
			func() error { return n.Units.Restart(ctx, unit) },
			func() error { return n.Units.Start(ctx, unit) })
		return n.withLog(ctx, unit, err)
	}
}

// notStarted is an error of a unit that has said something before.
type notStarted struct {
	error
	log []string
}

func (e notStarted) Unwrap() error { return e.error }

// logOf returns the last lines of the unit that err is about, nil if it is about none.
func logOf(err error) []string {
	var unit notStarted
	errors.As(err, &unit)
	return unit.log
}

const (
	journalDeadline = 5 * time.Second
	longestLine     = 300 // characters
)

// withLog adds to err what unit has said last.
func (n *node) withLog(ctx context.Context, unit string, err error) error {
	if err == nil || n.Journal == nil {
		return err
	}
	// The attempt may be over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalDeadline)
	defer cancel()
	log, journalErr := n.Journal(ctx, unit)
	if journalErr != nil {
		n.Log.Warn("cannot read the journal", zap.String("unit", unit), zap.Error(journalErr))
	}
	for i, line := range log {
		log[i] = cut(oneLine(line), longestLine)
	}
	return notStarted{err, log}
}

func (n *node) refresh(unit string, whenStale, otherwise func() error) error {
	mark := stale(unit)
	if !n.Root.UpToDate(mark) {
		return otherwise()
	}
	if err := whenStale(); err != nil {
		return err
	}
	return n.Root.Apply(rootfs.File{Path: mark.Path})
}
