package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"
)

// ReloadNetwork makes systemd-networkd read its files again, and waits for one that has only
// just started. Interfaces whose file stays the same stay as they are. On a machine whose
// network is not networkd's it does nothing.
func (*Bus) ReloadNetwork(ctx context.Context) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer conn.Close()
	err = conn.Object("org.freedesktop.network1", "/org/freedesktop/network1").
		CallWithContext(ctx, "org.freedesktop.network1.Manager.Reload", 0).Err
	var refused dbus.Error
	if errors.As(err, &refused) && slices.Contains(noNetworkd(), refused.Name) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reload systemd-networkd's configuration (see journalctl -u systemd-networkd): %w", err)
	}
	return nil
}

// noNetworkd are what the bus answers when networkd is not installed, not enabled or masked.
func noNetworkd() []string {
	return []string{
		"org.freedesktop.DBus.Error.ServiceUnknown",
		"org.freedesktop.systemd1.NoSuchUnit",
		"org.freedesktop.systemd1.UnitMasked",
	}
}
