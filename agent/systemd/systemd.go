// Package systemd starts units over D-Bus and writes the environment that units get. It
// promises that a unit it has started is one that systemd calls started; it never runs
// systemctl. Of systemd's programs it runs journalctl alone, to read.
package systemd

import (
	"context"
	"fmt"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/dbus"
)

// Bus is the system's service manager. It connects at the first call, and anew at one after
// the connection was lost.
type Bus struct {
	mu   sync.Mutex
	conn *dbus.Conn // nil: none yet
}

// connect returns a connection that lasts.
func (b *Bus) connect(ctx context.Context) (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn != nil {
		if b.conn.Connected() {
			return b.conn, nil
		}
		b.conn.Close()
		b.conn = nil
	}
	// A connection ends with the context that it was made in, which may be no longer than ctx
	// until it is there.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	inTime := context.AfterFunc(ctx, end)
	conn, err := dbus.NewWithContext(life)
	if !inTime() {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	b.conn = conn
	return conn, nil
}

// Reload makes the manager read unit files and its own configuration again.
func (b *Bus) Reload(ctx context.Context) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload systemd's configuration: %w", err)
	}
	return nil
}

// Start starts unit, unless it runs already, and waits until it has started.
func (b *Bus) Start(ctx context.Context, unit string) error {
	return b.job(ctx, unit, (*dbus.Conn).StartUnitContext)
}

// Restart starts unit with a fresh process and waits until it has started.
func (b *Bus) Restart(ctx context.Context, unit string) error {
	return b.job(ctx, unit, (*dbus.Conn).RestartUnitContext)
}

// ActiveState returns systemd's ActiveState of the service unit, named without its suffix,
// "inactive" for one that is not there.
func (b *Bus) ActiveState(ctx context.Context, unit string) (string, error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return "", err
	}
	property, err := conn.GetUnitPropertyContext(ctx, unit+".service", "ActiveState")
	if err != nil {
		return "", fmt.Errorf("ask systemd for the state of %s: %w", unit, err)
	}
	state, _ := property.Value.Value().(string)
	return state, nil
}

type enqueue func(conn *dbus.Conn, ctx context.Context, unit, mode string, done chan<- string) (int, error)

func (b *Bus) job(ctx context.Context, unit string, enqueue enqueue) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := enqueue(conn, ctx, unit, "replace", done); err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("start %s: %s (see journalctl -u %s)", unit, result, unit)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start %s: it has not started yet: %w", unit, context.Cause(ctx))
	}
}

// Notify tells the service manager about the calling process, by sd_notify(3). Outside of
// systemd it does nothing.
func Notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}
