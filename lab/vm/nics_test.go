package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// monitor plays the control socket of a QEMU whose guest lets go of devices at once.
type monitor struct {
	devices, taps []string
	told          []string // the commands that change something
}

// play makes a Machine whose QEMU is the monitor.
func (q *monitor) play(t *testing.T) *Machine {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	go q.serve(theirs)
	control, err := newQMP(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{qmp: control, gone: make(chan struct{})}
	go func() {
		for e := range control.events {
			if e.Name == "DEVICE_DELETED" {
				m.released(e.Data.Device)
			}
		}
	}()
	return m
}

func (q *monitor) serve(conn net.Conn) {
	say := func(message any) {
		line, _ := json.Marshal(message)
		_, _ = conn.Write(append(line, '\n'))
	}
	say(map[string]any{"QMP": map[string]any{}})
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var asked struct {
			Execute   string            `json:"execute"`
			ID        int               `json:"id"`
			Arguments map[string]string `json:"arguments"`
		}
		_ = json.Unmarshal(lines.Bytes(), &asked)
		result, class, event := q.do(asked.Execute, asked.Arguments)
		if class != "" {
			say(map[string]any{"id": asked.ID, "error": map[string]any{"class": class, "desc": "no"}})
			continue
		}
		say(map[string]any{"id": asked.ID, "return": result})
		if event != "" {
			say(map[string]any{"event": "DEVICE_DELETED", "data": map[string]any{"device": event}})
		}
	}
}

func (q *monitor) do(command string, with map[string]string) (result any, class, event string) {
	id := with["id"]
	switch command {
	case "qom-list":
		list := []map[string]string{}
		for _, d := range q.devices {
			list = append(list, map[string]string{"name": d})
		}
		return list, "", ""
	case "netdev_add":
		if slices.Contains(q.taps, id) {
			return nil, "GenericError", ""
		}
		q.taps = append(q.taps, id)
	case "netdev_del":
		if !slices.Contains(q.taps, id) {
			return nil, "DeviceNotFound", ""
		}
		q.taps = slices.DeleteFunc(q.taps, func(t string) bool { return t == id })
	case "device_add":
		q.devices = append(q.devices, id)
	case "device_del":
		q.devices = slices.DeleteFunc(q.devices, func(d string) bool { return d == id })
		event = id
	}
	var values []string
	for _, name := range []string{"driver", "type", "id", "netdev", "ifname", "mac", "bus"} {
		if v, ok := with[name]; ok {
			values = append(values, name+"="+v)
		}
	}
	if command != "qmp_capabilities" {
		q.told = append(q.told, strings.Join(append([]string{command}, values...), " "))
	}
	return map[string]any{}, "", event
}

func TestANetworkInterfaceComesWithItsTapPluggedInAndGoesWithIt(t *testing.T) {
	n := NIC{Interface: "eni-1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Tap: "eni1", Slot: 3}
	for name, left := range map[string][]string{"on a fresh machine": nil, "where a killed process left the tap": {"eni1"}} {
		t.Run(name, func(t *testing.T) {
			q := &monitor{taps: left}
			m := q.play(t)
			plugged := func() error {
				q.told = append(q.told, "plug")
				return nil
			}
			for range 2 { // the second finds it there
				if err := m.Connect(t.Context(), n, plugged); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := m.Disconnect(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{
				"netdev_add type=tap id=eni1 ifname=eni1", "plug",
				"device_add driver=virtio-net-pci id=eni-1 netdev=eni1 mac=02:00:00:00:00:01 bus=slot3", "plug",
				"device_del id=eni-1", "netdev_del id=eni1",
			}
			if left != nil {
				want = append([]string{"netdev_del id=eni1"}, want...)
			}
			if !slices.Equal(q.told, want) {
				t.Errorf("QEMU was told\n%s\nwant\n%s", strings.Join(q.told, "\n"), strings.Join(want, "\n"))
			}
			if len(q.devices)+len(q.taps) != 0 {
				t.Errorf("%v and %v are left", q.devices, q.taps)
			}
		})
	}
}

func TestTheGuestSeesNoInterfaceThatCannotBePluggedIn(t *testing.T) {
	q, no := &monitor{}, errors.New("no bridge")
	m := q.play(t)
	if err := m.Connect(t.Context(), NIC{Interface: "eni-1", Tap: "eni1"}, func() error { return no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if len(q.devices) != 0 {
		t.Errorf("the guest has %v", q.devices)
	}
}
