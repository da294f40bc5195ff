package boot_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

func TestTagsOfTheInstanceReachTheNode(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("meta-data/tags/instance", "Name\novenbird.dev-label:team\novenbird.dev-taint:gpu")
	w.metadata.Set("meta-data/tags/instance/ovenbird.dev-label:team", "blue")
	w.metadata.Set("meta-data/tags/instance/ovenbird.dev-taint:gpu", "yes")
	status := w.mustJoin()
	if flags := w.read("/etc/eks/kubelet/environment"); !strings.Contains(flags, ",team=blue ") || strings.Contains(flags, "gpu") {
		t.Errorf("kubelet gets %s", flags)
	}
	if want := "tag ovenbird.dev-taint:gpu=yes has no effect: want value:Effect, the effect one of NoSchedule, PreferNoSchedule, NoExecute"; !slices.Contains(status.Warnings, want) {
		t.Errorf("warnings are %q", status.Warnings)
	}
	if calls := status.Traffic.AWS.Calls; calls != 0 {
		t.Errorf("%d AWS calls", calls)
	}
}

func TestNetworkdHearsOnceWhichInterfacesToLeaveAlone(t *testing.T) {
	w := newWorld(t)
	w.metadata.Set("meta-data/mac", "02:aa:00:00:00:01")
	if err := w.root.Apply(
		rootfs.File{Path: "/sys/class/net/ens5/address", Data: []byte("02:aa:00:00:00:01\n")},
		rootfs.File{Path: "/sys/class/net/ens5/device/vendor", Data: []byte("0x1d0f\n")},
	); err != nil {
		t.Fatal(err)
	}
	w.mustJoin()
	if file := w.read("/run/systemd/network/05-ovenbird-secondary.network"); !strings.Contains(file, "\nProperty=!INTERFACE=ens5\n") {
		t.Errorf("networkd gets %s", file)
	}
	w.mustJoin() // an agent that is started again
	reloads := 0
	for _, call := range w.units.calls {
		if call == "reload network" {
			reloads++
		}
	}
	if reloads != 1 {
		t.Errorf("networkd was reloaded %d times: %q", reloads, w.units.calls)
	}
}
