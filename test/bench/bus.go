package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
)

// serviceManager is systemd's end of D-Bus for units that start at once.
type serviceManager struct {
	conn    *dbus.Conn
	jobs    atomic.Uint32
	started func(unit string)
}

const managerInterface = "org.freedesktop.systemd1.Manager"

// startBus starts a bus of its own with such a systemd on it, and returns its address. A job
// is done when started has returned.
func startBus(ctx context.Context, dir string, started func(unit string)) (address string, stop func(), err error) {
	daemon := exec.CommandContext(ctx, "dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+filepath.Join(dir, "bus"))
	daemon.Stderr = os.Stderr
	stdout, err := daemon.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := daemon.Start(); err != nil {
		return "", nil, fmt.Errorf("start a bus (is the package dbus-daemon there?): %w", err)
	}
	stop = func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("dbus-daemon has told no address: %w", err)
	}
	address = strings.TrimSpace(line)
	conn, err := dbus.Connect(address, dbus.WithContext(ctx)) // it ends with the bus
	if err == nil {
		err = conn.Export(&serviceManager{conn: conn, started: started}, "/org/freedesktop/systemd1", managerInterface)
	}
	if err == nil {
		_, err = conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("put a systemd on the bus: %w", err)
	}
	return address, stop, nil
}

// Subscribe, Reload, StartUnit and RestartUnit are systemd's methods of these names.
func (*serviceManager) Subscribe() *dbus.Error { return nil }

func (*serviceManager) Reload() *dbus.Error { return nil }

func (m *serviceManager) StartUnit(unit, _ string) (dbus.ObjectPath, *dbus.Error) {
	m.started(unit)
	id := m.jobs.Add(1)
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", id))
	if err := m.conn.Emit("/org/freedesktop/systemd1", managerInterface+".JobRemoved", id, job, unit, "done"); err != nil {
		return "", dbus.MakeFailedError(err)
	}
	return job, nil
}

func (m *serviceManager) RestartUnit(unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return m.StartUnit(unit, mode)
}
