package faulttest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName   = "org.freedesktop.systemd1"
	systemdObject = dbus.ObjectPath("/org/freedesktop/systemd1")
	// noSuchUnit is what systemd says of a unit that it does not have.
	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
)

// Systemd is a service manager behind a system bus of its own: the bus and systemd in one,
// as far as go-systemd uses them.
type Systemd struct {
	t testing.TB

	mu    sync.Mutex
	units map[string]*unit
	jobs  uint32
	calls []string
	buses map[*busConn]bool
}

// unit is one unit.
type unit struct {
	active string // systemd's ActiveState
	fails  int    // how many of the next starts fail
	start  func() error
}

// NewSystemd returns one whose bus is the socket at path until the test ends. It has no units
// yet.
func NewSystemd(t testing.TB, path string) *Systemd {
	t.Helper()
	s := &Systemd{t: t, units: map[string]*unit{}, buses: map[*busConn]bool{}}
	listener, err := net.Listen("unix", path) //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go s.serve(listener)
	return s
}

// Unit makes there be a unit, which start starts: an error is a start that fails. A unit
// that runs is not started again but by a restart.
func (s *Systemd) Unit(name string, start func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[name] = &unit{active: "inactive", start: start}
}

// Fail makes the next n starts of the unit fail.
func (s *Systemd) Fail(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[name].fails = n
}

// Calls returns what was asked for so far: "Reload", "StartUnit kubelet.service".
func (s *Systemd) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// HangUp ends all connections to the bus, as its restart does.
func (s *Systemd) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for bus := range s.buses {
		bus.out.Close()
	}
}

// Connections returns how many there are to the bus.
func (s *Systemd) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buses)
}

func (s *Systemd) note(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
}

// serve takes connections until listener ends.
func (s *Systemd) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go s.talk(conn)
	}
}

// busConn is one connection to the bus.
type busConn struct {
	mu     sync.Mutex
	out    net.Conn
	serial uint32
}

// send writes message with the next serial number, which godbus lets nobody set: it is the
// third word of a message.
func (c *busConn) send(message *dbus.Message) error {
	var encoded bytes.Buffer
	if err := message.EncodeTo(&encoded, binary.LittleEndian); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	binary.LittleEndian.PutUint32(encoded.Bytes()[8:], c.serial)
	_, err := c.out.Write(encoded.Bytes())
	return err
}

func (s *Systemd) talk(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if !authenticate(in, conn) {
		return
	}
	bus := &busConn{out: conn}
	s.mu.Lock()
	s.buses[bus] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.buses, bus)
	}()
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return // the agent hung up, or was killed
		}
		if call.Type != dbus.TypeMethodCall {
			continue
		}
		body, failure, after := s.answer(call)
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			dbus.FieldSender:      dbus.MakeVariant(systemdName),
		}, Body: body}
		if failure != "" {
			reply.Type = dbus.TypeError
			reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(failure)
		}
		if len(body) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		if err := bus.send(reply); err != nil {
			return
		}
		if after != nil {
			go after()
		}
	}
}

// authenticate is the server's side of SASL: it takes whoever comes.
func authenticate(in *bufio.Reader, out io.Writer) bool {
	if zero, err := in.ReadByte(); err != nil || zero != 0 {
		return false
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		answer := "ERROR"
		switch line = strings.TrimSpace(line); {
		case line == "BEGIN":
			return true
		case line == "AUTH":
			answer = "REJECTED EXTERNAL"
		case strings.HasPrefix(line, "AUTH EXTERNAL"):
			answer = "OK 0123456789abcdef0123456789abcdef"
		}
		if _, err := fmt.Fprint(out, answer, "\r\n"); err != nil {
			return false
		}
	}
}

// answer returns the body of the answer to call, the name of the error if it is one, and
// what is to be done once it is sent.
func (s *Systemd) answer(call *dbus.Message) (body []any, failure string, after func()) {
	member, _ := call.Headers[dbus.FieldMember].Value().(string)
	name := ""
	if len(call.Body) > 0 {
		name, _ = call.Body[0].(string)
	}
	switch member {
	case "Hello":
		return []any{":1.1"}, "", nil
	case "AddMatch", "RemoveMatch", "Subscribe":
		return nil, "", nil
	case "Reload":
		s.note(member)
		return nil, "", nil
	case "StartUnit", "RestartUnit":
		s.note(member + " " + name)
		s.mu.Lock()
		defer s.mu.Unlock()
		unit := s.units[name]
		if unit == nil {
			return []any{"Unit " + name + " not found."}, noSuchUnit, nil
		}
		s.jobs++
		id, job := s.jobs, dbus.ObjectPath(fmt.Sprint("/org/freedesktop/systemd1/job/", s.jobs))
		return []any{job}, "", func() { s.run(unit, name, member == "RestartUnit", id, job) }
	case "Get": // org.freedesktop.DBus.Properties, of a unit
		object, _ := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		s.mu.Lock()
		defer s.mu.Unlock()
		for name, unit := range s.units {
			if dbus.ObjectPath("/org/freedesktop/systemd1/unit/"+escaped(name)) == object {
				return []any{dbus.MakeVariant(unit.active)}, "", nil
			}
		}
		return []any{dbus.MakeVariant("inactive")}, "", nil
	}
	return []any{"no such method: " + member}, "org.freedesktop.DBus.Error.UnknownMethod", nil
}

// run is a job: it starts the unit and tells everyone how that went.
func (s *Systemd) run(unit *unit, name string, fresh bool, id uint32, job dbus.ObjectPath) {
	s.mu.Lock()
	fail := unit.fails > 0
	if fail {
		unit.fails--
	}
	running := unit.active == "active" && !fresh
	s.mu.Unlock()
	result := "done"
	switch {
	case fail:
		result = "failed"
	case running:
	default:
		if err := unit.start(); err != nil {
			s.t.Logf("%s: %v", name, err)
			result = "failed"
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unit.active = "active"
	if result != "done" {
		unit.active = "failed"
	}
	body := []any{id, job, name, result}
	for bus := range s.buses {
		_ = bus.send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(systemdObject),
			dbus.FieldInterface: dbus.MakeVariant(systemdName + ".Manager"),
			dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
			dbus.FieldSender:    dbus.MakeVariant(systemdName),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
		}, Body: body}) // whoever has hung up does not need it
	}
}

// escaped is name as a part of an object's path, as systemd writes it.
func escaped(name string) string {
	var b strings.Builder
	for _, c := range []byte(path.Base(name)) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
