package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	managerName      = "org.freedesktop.systemd1"
	managerPath      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerInterface = managerName + ".Manager"
	unitInterface    = managerName + ".Unit"
	serviceInterface = managerName + ".Service"
	// stopDeadline is how long a script that took too long has after SIGTERM.
	stopDeadline = 10 * time.Second
)

// Scripts runs programs as services of their own, with all the rights of root: they are no
// children of the agent and share nothing of its sandbox. A service stays loaded until the
// machine stops, so that an agent that was started again finds its result.
type Scripts struct {
	EnvironmentDir string        // holds the environment of each, which may have passwords
	Deadline       time.Duration // how long each may run before systemd kills it
}

// ScriptFailure says why a program did not end by itself. Any other error of Run and Await
// is about systemd and says nothing of the program.
type ScriptFailure string

func (f ScriptFailure) Error() string { return string(f) }

// property is systemd's (sv), a property of a transient unit.
type property struct {
	Name  string
	Value dbus.Variant
}

// command is systemd's (sasb): program, arguments, whether failure is ignored.
type command struct {
	Path    string
	Args    []string
	Ignored bool
}

// environmentFile is systemd's (sb): path, whether it may be missing.
type environmentFile struct {
	Path     string
	Optional bool
}

// auxiliary is systemd's (sa(sv)), of which there never are any.
type auxiliary struct {
	Name       string
	Properties []property
}

// Run runs the program at path as the service unit, in "/", to its end. Its output goes to
// the journal. It fails with a ScriptFailure when the program did not end by itself. When
// ctx ends first, the service goes on.
func (s Scripts) Run(ctx context.Context, unit, path string, environ []string) (int, error) {
	// Everybody on the bus may read the property Environment, so it is a file.
	environment := filepath.Join(s.EnvironmentDir, unit+".env")
	if err := os.MkdirAll(s.EnvironmentDir, 0o755); err != nil { //nolint:gosec // the status is there too, for all to read
		return 0, fmt.Errorf("write the environment of %s: %w", unit, err)
	}
	if err := os.WriteFile(environment, environmentOf(environ), 0o600); err != nil {
		return 0, fmt.Errorf("write the environment of %s: %w", unit, err)
	}
	conn, ended, err := follow(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	properties := []property{
		{"Description", dbus.MakeVariant("Script of user-data " + path)},
		{"Type", dbus.MakeVariant("oneshot")},
		{"RemainAfterExit", dbus.MakeVariant(true)}, // else its exit status goes with it
		{"ExecStart", dbus.MakeVariant([]command{{Path: path, Args: []string{path}}})},
		{"WorkingDirectory", dbus.MakeVariant("/")},
		{"EnvironmentFiles", dbus.MakeVariant([]environmentFile{{Path: environment}})},
		{"StandardOutput", dbus.MakeVariant("journal")},
		{"StandardError", dbus.MakeVariant("journal")},
		{"TimeoutStartUSec", dbus.MakeVariant(uint64(s.Deadline.Microseconds()))}, //nolint:gosec // not negative
		{"TimeoutStopUSec", dbus.MakeVariant(uint64(stopDeadline.Microseconds()))},
		{"KillMode", dbus.MakeVariant("control-group")},
	}
	err = conn.Object(managerName, managerPath).CallWithContext(ctx, managerInterface+".StartTransientUnit", 0, unit, "fail", properties, []auxiliary{}).Err
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", unit, err)
	}
	return s.await(ctx, conn, ended, unit)
}

// Await waits for a service that an earlier Run has started since the machine started, and
// returns what Run would have. Found is false when there is none.
func (s Scripts) Await(ctx context.Context, unit string) (exitStatus int, found bool, err error) {
	conn, ended, err := follow(ctx)
	if err != nil {
		return 0, false, err
	}
	defer conn.Close()
	var object dbus.ObjectPath
	err = conn.Object(managerName, managerPath).CallWithContext(ctx, managerInterface+".GetUnit", 0, unit).Store(&object)
	var refused dbus.Error
	if errors.As(err, &refused) && refused.Name == managerName+".NoSuchUnit" {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	exitStatus, err = s.await(ctx, conn, ended, unit)
	return exitStatus, true, err
}

// follow connects to systemd and subscribes to the ends of its jobs.
func follow(ctx context.Context) (*dbus.Conn, <-chan *dbus.Signal, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to systemd: %w", err)
	}
	ended := make(chan *dbus.Signal, 16)
	conn.Signal(ended)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("JobRemoved"))
	if err == nil {
		err = conn.Object(managerName, managerPath).CallWithContext(ctx, managerInterface+".Subscribe", 0).Err
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("follow systemd's jobs: %w", err), conn.Close())
	}
	return conn, ended, nil
}

// await waits until unit has no job left, which is when its program has ended, and returns
// how it did. It looks only after it has subscribed, so it misses no end.
func (s Scripts) await(ctx context.Context, conn *dbus.Conn, ended <-chan *dbus.Signal, unit string) (int, error) {
	var object dbus.ObjectPath
	err := conn.Object(managerName, managerPath).CallWithContext(ctx, managerInterface+".GetUnit", 0, unit).Store(&object)
	if err != nil {
		return 0, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	service := conn.Object(managerName, object)
	for {
		var job struct {
			ID   uint32
			Path dbus.ObjectPath
		}
		if err := get(ctx, service, unitInterface, "Job", &job); err != nil {
			return 0, fmt.Errorf("ask systemd for the job of %s: %w", unit, err)
		}
		if job.ID == 0 {
			return s.result(ctx, service, unit)
		}
		if err := jobOf(ctx, ended, unit); err != nil {
			return 0, fmt.Errorf("wait for %s, which still runs: %w", unit, err)
		}
	}
}

// jobOf waits for the end of a job of unit.
func jobOf(ctx context.Context, ended <-chan *dbus.Signal, unit string) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case signal, open := <-ended:
			if !open {
				return errors.New("systemd has closed the connection")
			}
			// JobRemoved(u id, o job, s unit, s result)
			if len(signal.Body) == 4 && signal.Body[2] == unit {
				return nil
			}
		}
	}
}

// result returns how the program of a service has ended.
func (s Scripts) result(ctx context.Context, service dbus.BusObject, unit string) (int, error) {
	var result string
	var code, status int32
	err := errors.Join(
		get(ctx, service, serviceInterface, "Result", &result),
		get(ctx, service, serviceInterface, "ExecMainCode", &code),
		get(ctx, service, serviceInterface, "ExecMainStatus", &status),
	)
	const exited = 1 // CLD_EXITED of waitid(2)
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask systemd for the result of %s: %w", unit, err)
	case result == "timeout":
		return 0, ScriptFailure(fmt.Sprintf("was killed: still running after %s", s.Deadline))
	case code == exited:
		// From 200 on it may be systemd's own, see systemd.exec(5): 203 is a program that
		// cannot be executed.
		return int(status), nil
	case code != 0:
		return 0, ScriptFailure("signal: " + syscall.Signal(status).String())
	default:
		return 0, ScriptFailure(fmt.Sprintf("did not start: %s (see journalctl -u %s)", result, unit))
	}
}

// get reads a property of a unit into value.
func get(ctx context.Context, object dbus.BusObject, of, name string, value any) error {
	var variant dbus.Variant
	if err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, of, name).Store(&variant); err != nil {
		return err
	}
	return variant.Store(value)
}

// environmentOf returns assignments as an EnvironmentFile of systemd.exec(5) has them.
func environmentOf(environ []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`)
	var b strings.Builder
	for _, assignment := range environ {
		name, value, _ := strings.Cut(assignment, "=")
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, escape.Replace(value))
	}
	return []byte(b.String())
}
