package systemd

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// manager is systemd's end of D-Bus for one unit, whose job ends when it is told to.
type manager struct {
	conn       *dbus.Conn
	job        uint32
	properties map[string]any
	started    []property
}

const scriptObject = dbus.ObjectPath("/org/freedesktop/systemd1/unit/script")

func (*manager) Subscribe() *dbus.Error { return nil }

func (m *manager) GetUnit(unit string) (dbus.ObjectPath, *dbus.Error) {
	if unit != "script.service" {
		return "", dbus.NewError(managerName+".NoSuchUnit", nil)
	}
	return scriptObject, nil
}

func (m *manager) StartTransientUnit(_, _ string, properties []property, _ []auxiliary) (dbus.ObjectPath, *dbus.Error) {
	m.started, m.job = properties, 7
	return "/org/freedesktop/systemd1/job/7", nil
}

// Get is of the unit. Whoever sees the job sees it end after that.
func (m *manager) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "Job" {
		return dbus.MakeVariant(m.properties[name]), nil
	}
	job := struct {
		ID   uint32
		Path dbus.ObjectPath
	}{m.job, "/"}
	if m.job != 0 {
		m.job = 0
		_ = m.conn.Emit(managerPath, managerInterface+".JobRemoved", uint32(6), dbus.ObjectPath("/job/6"), "another.service", "done")
		_ = m.conn.Emit(managerPath, managerInterface+".JobRemoved", uint32(7), dbus.ObjectPath("/job/7"), "script.service", "done")
	}
	return dbus.MakeVariant(job), nil
}

func startManager(t *testing.T, properties map[string]any) *manager {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("dbus-daemon is not installed, and CI must run this")
		}
		t.Skip("dbus-daemon is not installed")
	}
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	stdout, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{conn: conn, properties: properties}
	_, nameErr := conn.RequestName(managerName, dbus.NameFlagDoNotQueue)
	if err := errors.Join(conn.Export(m, managerPath, managerInterface), conn.Export(m, scriptObject, "org.freedesktop.DBus.Properties"), nameErr); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAScriptRunsAsAServiceToItsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		result       string
		code, status int32
		want         int
		failure      string
	}{
		"one that succeeds":             {"success", 1, 0, 0, ""},
		"one that fails":                {"exit-code", 1, 7, 7, ""},
		"one that a signal ends":        {"signal", 2, 15, 0, "signal: terminated"},
		"one that takes too long":       {"timeout", 2, 15, 0, "was killed: still running after 10m0s"},
		"one that was never got to run": {"resources", 0, 0, 0, "did not start: resources (see journalctl -u script.service)"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startManager(t, map[string]any{"Result": test.result, "ExecMainCode": test.code, "ExecMainStatus": test.status})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			scripts := Scripts{EnvironmentDir: t.TempDir(), Deadline: 10 * time.Minute}
			check := func(status int, err error) {
				t.Helper()
				var failure ScriptFailure
				if status != test.want || (err == nil) != (test.failure == "") || err != nil && (!errors.As(err, &failure) || err.Error() != test.failure) {
					t.Errorf("got %d, %v", status, err)
				}
			}
			check(scripts.Run(ctx, "script.service", "/script", []string{"A=b \"c\" $d", "P=secret"}))
			for _, p := range m.started {
				if p.Name == "Environment" || strings.Contains(p.Value.String(), "secret") {
					t.Errorf("the bus tells %s", p.Name)
				}
			}
			path := filepath.Join(scripts.EnvironmentDir, "script.service.env")
			data, err := os.ReadFile(path)
			info, statErr := os.Stat(path)
			if err != nil || statErr != nil || info.Mode() != 0o600 || string(data) != "A=\"b \\\"c\\\" \\$d\"\nP=\"secret\"\n" {
				t.Errorf("the environment is %q, %v", data, err)
			}
			status, found, err := scripts.Await(ctx, "script.service")
			if check(status, err); !found {
				t.Error("it is not found afterwards")
			}
			if _, found, err := scripts.Await(ctx, "other.service"); found || err != nil {
				t.Errorf("another is found: %t, %v", found, err)
			}
		})
	}
}
