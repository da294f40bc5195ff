package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// inNamespace runs f in a fresh namespace that goes with the test.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	name := fmt.Sprintf("ovenbird-net-%d", os.Getpid())
	if err := namespace.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespace.Delete(name) })
	if err := namespace.Do(name, f); err != nil {
		t.Fatal(err)
	}
}

func show(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return string(out)
}

func TestSetupBuildsThePlanAndASecondRunChangesNothing(t *testing.T) {
	hostLinks, hostForward := show(t, "ip", "link"), show(t, "cat", "/proc/sys/net/ipv4/ip_forward")
	inNamespace(t, func() error {
		plan := vpc.Default()
		if owner := Owner(plan); owner != "" {
			t.Errorf("an empty namespace belongs to %q", owner)
		}
		var before string
		for run := range 2 {
			if err := Setup(plan, "the test"); err != nil {
				return err
			}
			now := show(t, "ip", "-br", "addr") + show(t, "ip", "route")
			if run == 1 && now != before {
				t.Errorf("second run changed\n%s\nto\n%s", before, now)
			}
			before = now
		}
		for _, want := range []string{"10.0.0.1/20", "10.0.16.1/20", "10.0.32.1/20", "10.0.0.2/32", "10.0.0.3/32", "10.0.0.10/32", "169.254.169.254/32"} {
			if !strings.Contains(before, want) {
				t.Errorf("no %s in\n%s", want, before)
			}
		}
		if strings.Contains(before, "default") {
			t.Errorf("the lab has a way out:\n%s", before)
		}
		if owner := Owner(plan); owner != "the test" {
			t.Errorf("the namespace belongs to %q", owner)
		}
		return nil
	})
	if now := show(t, "ip", "link"); now != hostLinks {
		t.Errorf("the host's links changed from\n%s\nto\n%s", hostLinks, now)
	}
	if now := show(t, "cat", "/proc/sys/net/ipv4/ip_forward"); now != hostForward {
		t.Errorf("the host's forwarding changed from %s to %s", hostForward, now)
	}
}

func TestAPortIsBoundToItsAddresses(t *testing.T) {
	inNamespace(t, func() error {
		plan := vpc.Default()
		if err := Setup(plan, "the test"); err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "tap0"
		if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP}); err != nil {
			return err
		}
		mac, _ := net.ParseMAC("02:11:22:33:44:55")
		port := Port{Interface: "tap0", Bridge: "subnet-b", MAC: mac, Address: netip.MustParseAddr("10.0.16.77")}
		for range 2 {
			if err := Plug(port); err != nil {
				return err
			}
		}
		fdb := show(t, "bridge", "fdb", "show", "dev", "tap0")
		if !strings.Contains(fdb, "02:11:22:33:44:55 master subnet-b static") {
			t.Errorf("forwarding table:\n%s", fdb)
		}
		if port := show(t, "bridge", "-d", "link", "show", "dev", "tap0"); !strings.Contains(port, "learning off") {
			t.Errorf("bridge port:\n%s", port)
		}
		if n := show(t, "ip", "neigh", "show", "dev", "subnet-b"); !strings.Contains(n, "10.0.16.77 lladdr 02:11:22:33:44:55 PERMANENT") {
			t.Errorf("neighbours:\n%s", n)
		}
		for range 2 {
			if err := Unplug(port); err != nil {
				return err
			}
		}
		if n := show(t, "ip", "neigh", "show", "dev", "subnet-b"); n != "" {
			t.Errorf("neighbours after Unplug:\n%s", n)
		}
		return nil
	})
}
