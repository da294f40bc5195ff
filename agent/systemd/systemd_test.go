package systemd_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/faulttest"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

// socket is the path of the system bus for the test.
func socket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	return path
}

func TestCallsShareAConnectionUntilItIsLost(t *testing.T) {
	manager := faulttest.NewSystemd(t, socket(t))
	manager.Unit("kubelet.service", func() error { return nil })
	var bus systemd.Bus
	restart := func() error { return bus.Restart(t.Context(), "kubelet.service") }
	for range 3 {
		if err := restart(); err != nil {
			t.Fatal(err)
		}
	}
	if got := manager.Connections(); got != 2 { // go-systemd has one for signals
		t.Errorf("there are %d connections", got)
	}

	manager.HangUp()
	deadline := time.Now().Add(time.Minute)
	err := restart()
	for err != nil && time.Now().Before(deadline) {
		err = restart() // the loss may be noticed by the call
	}
	if err != nil {
		t.Errorf("after the connection was lost: %v", err)
	}
}

func TestConnectingEndsWithItsContext(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket(t))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // it takes connections, and answers none
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var bus systemd.Bus
	if err := bus.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
