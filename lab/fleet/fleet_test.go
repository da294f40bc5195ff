package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/lab/dnsmasq"
	"github.com/ovenbird-dev/ovenbird/lab/network"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vm"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// host stands for the machine that instances run on. It outlives the fleets of a test, as
// virtual machines outlive the lab's daemon.
type host struct {
	mu       sync.Mutex
	machines map[string]*machine // by directory
	plugged  map[string]bool     // by interface
	names    []netip.Addr
	specs    map[string]vm.Spec // by directory
	nics     map[string]vm.NIC  // that guests got while they ran, by interface
	stuck    error              // of the next interfaces that guests are to let go
	uefi     []byte             // of every image
	failing  error              // of the next starts
	deaf     bool               // guests ignore the power button
	restarts int
}

type machine struct {
	host         *host
	resumed      bool
	presses      int
	halted, gone chan struct{}
}

func newHost() *host {
	return &host{machines: map[string]*machine{}, plugged: map[string]bool{}, specs: map[string]vm.Spec{}, nics: map[string]vm.NIC{}}
}

func (h *host) Start(_ context.Context, spec vm.Spec) (Machine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing != nil {
		return nil, h.failing
	}
	if _, twice := h.machines[spec.Dir]; twice {
		return nil, fmt.Errorf("%s runs already", spec.Dir)
	}
	m := &machine{host: h, halted: make(chan struct{}), gone: make(chan struct{})}
	h.machines[spec.Dir], h.specs[spec.Dir] = m, spec
	return m, nil
}

func (h *host) Restart(ctx context.Context, spec vm.Spec) (Machine, error) {
	h.mu.Lock()
	h.restarts++
	h.mu.Unlock()
	return h.Start(ctx, spec)
}

func (h *host) Adopt(_ context.Context, dir string) (Machine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m, ok := h.machines[dir]; ok {
		return m, nil
	}
	return nil, vm.ErrNotRunning
}

func (h *host) Disk(image string) (string, []byte, error) { return "/images/" + image, h.uefi, nil }

func (h *host) Plug(p network.Port) error   { return h.plug(p, true) }
func (h *host) Unplug(p network.Port) error { return h.plug(p, false) }

func (h *host) plug(p network.Port, in bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in && strings.HasPrefix(p.Interface, "eni") && !h.hasTap(p.Interface) {
		return fmt.Errorf("no interface %s", p.Interface)
	}
	h.plugged[p.Interface] = in
	return nil
}

// hasTap tells whether a machine has a tap besides its first. The caller holds mu.
func (h *host) hasTap(name string) bool {
	is := func(n vm.NIC) bool { return n.Tap == name }
	for dir := range h.machines {
		if slices.ContainsFunc(h.specs[dir].NICs, is) {
			return true
		}
	}
	return slices.ContainsFunc(slices.Collect(maps.Values(h.nics)), is)
}

func (h *host) Announce(hosts []dnsmasq.Host) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names = nil
	for _, host := range hosts {
		h.names = append(h.names, host.Address)
	}
	return nil
}

func (h *host) has(addr netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.names, addr)
}

func (m *machine) Resume(context.Context) error { m.resumed = true; return nil }
func (m *machine) Halted() <-chan struct{}      { return m.halted }
func (m *machine) Gone() <-chan struct{}        { return m.gone }
func (m *machine) LastWords() string            { return "last words" }

func (m *machine) Connect(_ context.Context, n vm.NIC, plug func() error) error {
	m.host.mu.Lock()
	m.host.nics[n.Interface] = n
	m.host.mu.Unlock()
	return plug()
}

func (m *machine) Disconnect(_ context.Context, n vm.NIC) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	delete(m.host.nics, n.Interface)
	return m.host.stuck
}

func (m *machine) PowerDown(context.Context) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.presses++
	if m.presses == 1 && !m.host.deaf {
		close(m.halted)
	}
	return nil
}

func (m *machine) Kill() {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	for dir, other := range m.host.machines {
		if other == m {
			delete(m.host.machines, dir)
			close(m.gone)
		}
	}
}

// open runs a fleet on the host until stop is called or the test ends.
func open(t *testing.T, dir state.Dir, h *host, change ...func(*Options)) (f *Fleet, stop func()) {
	t.Helper()
	o := Options{
		Plan: vpc.Default(), Dir: dir, Machines: h, Disks: h, Network: h, Now: time.Now, Logger: zaptest.NewLogger(t),
		ShutdownLimit: time.Minute, Retention: time.Hour,
	}
	for _, c := range change {
		c(&o)
	}
	f, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return f, stop
}

func newDir(t *testing.T) state.Dir {
	t.Helper()
	dir := state.Dir(t.TempDir())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func order(change ...func(*Order)) Order {
	kind, _ := FindType("t3.medium")
	o := Order{Min: 1, Max: 1, ImageID: "ami-1", Type: kind, SubnetID: vpc.Default().Subnets[1].ID, Tags: map[string]string{"a": "b"}}
	for _, c := range change {
		c(&o)
	}
	return o
}

func launch(t *testing.T, f *Fleet, o Order) Instance {
	t.Helper()
	list, err := f.Launch(o)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// reaches waits until the instance is in the state.
func reaches(t *testing.T, f *Fleet, id string, want State) Instance {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		i, ok := f.get(id)
		if ok && i.State == want {
			return i
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %q (%v), want %q", id, i.State, ok, want)
		}
	}
}

func (h *host) machine(dir state.Dir, id string) *machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.machines[dir.Instance(id)]
}

func TestAnInstanceStartsFromItsImagesDiskWithItsFirmwaresVariables(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.uefi = []byte("variables")
	f, _ := open(t, dir, h)
	i := launch(t, f, order())
	reaches(t, f, i.ID, Running)
	h.mu.Lock()
	spec := h.specs[dir.Instance(i.ID)]
	h.mu.Unlock()
	if spec.Image != "/images/ami-1" {
		t.Errorf("it starts from %s", spec.Image)
	}
	if data, err := os.ReadFile(spec.UefiData); err != nil || string(data) != "variables" {
		t.Errorf("firmware's variables: %q, %v", data, err)
	}
}

func TestAnInstanceRunsWithItsNetworkAndIsTerminatedWithNothingLeft(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := launch(t, f, order())
	if i.State != Pending {
		t.Errorf("launched as %q", i.State)
	}
	i = reaches(t, f, i.ID, Running)
	m := h.machine(dir, i.ID)
	if !m.resumed || !h.plugged[i.tap()] || !h.has(i.Address) {
		t.Errorf("resumed %v, plugged %v, named %v", m.resumed, h.plugged[i.tap()], h.has(i.Address))
	}
	if found, ok := f.ByAddress(i.Address); !ok || found.ID != i.ID {
		t.Errorf("by address: %v %v", found.ID, ok)
	}

	changes, err := f.Terminate([]string{i.ID, i.ID}, false)
	if err != nil || len(changes) != 1 || changes[0] != (Change{i.ID, Running, ShuttingDown}) {
		t.Fatalf("terminate: %+v, %v", changes, err)
	}
	i = reaches(t, f, i.ID, Terminated)
	if i.Reason.Code != ReasonUserShutdown {
		t.Errorf("reason %+v", i.Reason)
	}
	if m.presses != 1 || h.machine(dir, i.ID) != nil || h.plugged[i.tap()] {
		t.Errorf("presses %d, machine %v, plugged %v", m.presses, h.machine(dir, i.ID), h.plugged[i.tap()])
	}
	for deadline := time.Now().Add(10 * time.Second); h.has(i.Address); {
		if time.Now().After(deadline) {
			t.Fatal("the name is still there")
		}
	}
	if _, ok := f.ByAddress(i.Address); ok {
		t.Error("a terminated instance still has its address")
	}
	changes, err = f.Terminate([]string{i.ID}, false)
	if err != nil || changes[0] != (Change{i.ID, Terminated, Terminated}) {
		t.Errorf("terminate again: %+v, %v", changes, err)
	}
}

func TestATerminatedInstanceIsForgottenAfterAWhile(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h, func(o *Options) { o.Retention = time.Nanosecond })
	i := launch(t, f, order())
	reaches(t, f, i.ID, Running)
	if _, err := f.Terminate([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(f.Instances()) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("still listed")
		}
	}
	if _, err := os.Stat(dir.Instance(i.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	var missing *NotFoundError
	if _, err := f.Terminate([]string{i.ID}, false); !errors.As(err, &missing) {
		t.Errorf("terminate: %v", err)
	}
}

func TestAMachineThatCannotStartEndsTheInstanceWithTheReason(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.failing = errors.New("QEMU said: no such disk")
	f, _ := open(t, dir, h)
	i := launch(t, f, order())
	i = reaches(t, f, i.ID, Terminated)
	if i.Reason.Code != ReasonServerError || !strings.Contains(i.Reason.Message, "no such disk") {
		t.Errorf("reason %+v", i.Reason)
	}
}

func TestAGuestThatIgnoresThePowerButtonIsKilled(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.deaf = true
	f, _ := open(t, dir, h, func(o *Options) { o.ShutdownLimit = 10 * time.Millisecond })
	i := launch(t, f, order())
	reaches(t, f, i.ID, Running)
	m := h.machine(dir, i.ID)
	if _, err := f.Terminate([]string{i.ID}, false); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Terminated)
	if m.presses == 0 {
		t.Error("the guest was not asked")
	}
}

func TestSkippingTheShutdownDoesNotWaitForTheGuest(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.deaf = true
	f, _ := open(t, dir, h, func(o *Options) { o.ShutdownLimit = time.Hour })
	asked, rushed := launch(t, f, order()), launch(t, f, order())
	reaches(t, f, asked.ID, Running)
	reaches(t, f, rushed.ID, Running)
	if _, err := f.Terminate([]string{asked.ID}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Terminate([]string{asked.ID, rushed.ID}, true); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, asked.ID, Terminated)
	reaches(t, f, rushed.ID, Terminated)
}

func TestWhatAGuestsPowerOffMeansIsChosenAtLaunch(t *testing.T) {
	for name, c := range map[string]struct {
		terminate bool
		want      State
	}{"stop": {false, Stopped}, "terminate": {true, Terminated}} {
		t.Run(name, func(t *testing.T) {
			h, dir := newHost(), newDir(t)
			f, _ := open(t, dir, h)
			i := launch(t, f, order(func(o *Order) { o.TerminateOnShutdown = c.terminate }))
			reaches(t, f, i.ID, Running)
			close(h.machine(dir, i.ID).halted)
			i = reaches(t, f, i.ID, c.want)
			if i.Reason.Code != ReasonGuestShutdown {
				t.Errorf("reason %+v", i.Reason)
			}
			if h.machine(dir, i.ID) != nil {
				t.Error("its machine is still there")
			}
			if c.want == Stopped && !h.has(i.Address) {
				t.Error("a stopped instance lost its address")
			}
		})
	}
}

func TestACrashedMachineStopsTheInstance(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := launch(t, f, order())
	reaches(t, f, i.ID, Running)
	h.machine(dir, i.ID).Kill()
	i = reaches(t, f, i.ID, Stopped)
	if i.Reason.Code != ReasonServerError || !strings.Contains(i.Reason.Message, "last words") {
		t.Errorf("reason %+v", i.Reason)
	}
	if _, err := f.Terminate([]string{i.ID}, false); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Terminated)
}

func TestANewDaemonCarriesOnWhereTheLastWasKilled(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.deaf = true
	first, stop := open(t, dir, h)
	running, ending, lost := launch(t, first, order()), launch(t, first, order()), launch(t, first, order())
	for _, i := range []Instance{running, ending, lost} {
		reaches(t, first, i.ID, Running)
	}
	if _, err := first.Terminate([]string{ending.ID}, false); err != nil {
		t.Fatal(err)
	}
	stop()
	waiting := launch(t, first, order()) // recorded, and the daemon died before it acted
	h.machine(dir, lost.ID).Kill()
	kept := h.machine(dir, running.ID)
	close(h.machine(dir, ending.ID).halted)

	second, _ := open(t, dir, h)
	reaches(t, second, running.ID, Running)
	if h.machine(dir, running.ID) != kept {
		t.Error("the running machine was not adopted")
	}
	reaches(t, second, waiting.ID, Running)
	reaches(t, second, ending.ID, Terminated)
	if i := reaches(t, second, lost.ID, Stopped); i.Reason.Code != ReasonServerError {
		t.Errorf("reason %+v", i.Reason)
	}
}

func TestTheSameTokenLaunchesOnce(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	two := func(o *Order) { o.Max, o.ClientToken, o.Digest = 2, "token", "digest" }
	first, err := f.Launch(order(two))
	if err != nil || len(first) != 2 {
		t.Fatalf("%v, %v", first, err)
	}
	again, err := f.Launch(order(two))
	if err != nil || len(again) != 2 || again[0].ID != first[0].ID || again[1].ID != first[1].ID {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := f.Launch(order(two, func(o *Order) { o.Digest = "other" })); !errors.Is(err, ErrTokenReused) {
		t.Errorf("another request under the token: %v", err)
	}
	if got := len(f.Instances()); got != 2 {
		t.Errorf("%d instances", got)
	}
}

func TestAddressesAreGivenOutOnce(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	at := func(o *Order) { o.Address = netip.MustParseAddr("10.0.16.99") }
	if i := launch(t, f, order(at)); i.Address.String() != "10.0.16.99" {
		t.Errorf("got %s", i.Address)
	}
	if _, err := f.Launch(order(at)); !errors.Is(err, ErrAddressInUse) {
		t.Errorf("again: %v", err)
	}
	size := vpc.Default().Subnets[1].Size()
	if _, err := f.Launch(order(func(o *Order) { o.Min, o.Max = size, size })); !errors.Is(err, ErrNoAddresses) {
		t.Errorf("more than there are: %v", err)
	}
}
