package fleet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

func eni(index int) Interface {
	return Interface{ID: "eni-0123456789abcdef0", Index: index, MAC: "02:00:00:00:00:01", Address: netip.MustParseAddr("10.0.16.200"), SubnetID: order().SubnetID}
}

// eventually waits until what is asked is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not %s", what)
		}
	}
}

// connected tells whether the guest got the interface while it ran.
func (h *host) connected(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.nics[id]
	return ok
}

func (h *host) plugs(tap string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plugged[tap]
}

// progress is how far the attachment of the instance's interface is; empty: it has none.
func progress(f *Fleet, id string) AttachmentState {
	i, _ := f.get(id)
	if len(i.Interfaces) == 0 {
		return ""
	}
	return i.Interfaces[0].State
}

func TestAnInterfaceComesToARunningGuestAndGoes(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	n, err := f.AttachInterface(i.ID, eni(1))
	if err != nil || n.State != Attaching || !strings.HasPrefix(n.AttachmentID, "eni-attach-0") {
		t.Fatalf("%+v, %v", n, err)
	}
	eventually(t, "attached", func() bool { return progress(f, i.ID) == Attached })
	if !h.connected(n.ID) || !h.plugs(n.nic().Tap) || !h.has(n.Address) {
		t.Errorf("connected %v, plugged %v, named %v", h.connected(n.ID), h.plugs(n.nic().Tap), h.has(n.Address))
	}
	if found, ok := f.ByAddress(n.Address); !ok || found.ID != i.ID {
		t.Errorf("by address: %v %v", found.ID, ok)
	}
	if err := f.DetachInterface(i.ID, n.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "detached", func() bool { return progress(f, i.ID) == "" && !h.has(n.Address) })
	if h.connected(n.ID) || h.plugs(n.nic().Tap) {
		t.Errorf("connected %v, plugged %v", h.connected(n.ID), h.plugs(n.nic().Tap))
	}
}

func TestAStoppedInstanceStartsWithItsInterfacesAndATerminatedOneFreesThem(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	if _, err := f.Stop([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Stopped)
	n, err := f.AttachInterface(i.ID, eni(1))
	if err != nil || n.State != Attached {
		t.Fatalf("%+v, %v", n, err)
	}
	if _, err := f.Start([]string{i.ID}); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Running)
	h.mu.Lock()
	nics := h.specs[dir.Instance(i.ID)].NICs
	h.mu.Unlock()
	if len(nics) != 1 || nics[0].Interface != n.ID || nics[0].MAC.String() != n.MAC || len(nics[0].Tap) > 15 || !h.plugs(nics[0].Tap) {
		t.Errorf("it starts with %+v", nics)
	}
	if _, err := f.Terminate([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	ended := reaches(t, f, i.ID, Terminated)
	if len(ended.Interfaces) != 0 || h.plugs(n.nic().Tap) {
		t.Errorf("it keeps %+v", ended.Interfaces)
	}
}

func TestAnAttachmentThatAKilledProcessBeganIsCarriedOn(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, stop := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	stop()
	// The next process was told to attach, and dies before it does.
	dying, err := Open(Options{Plan: f.Plan, Dir: dir, Now: time.Now, Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dying.AttachInterface(i.ID, eni(1)); err != nil {
		t.Fatal(err)
	}
	next, _ := open(t, dir, h)
	eventually(t, "attached", func() bool { return progress(next, i.ID) == Attached })
	if !h.connected(eni(1).ID) {
		t.Error("the guest has not got it")
	}
}

func TestAGuestThatDoesNotLetGoKeepsTheInterfaceUntilItStops(t *testing.T) {
	h := newHost()
	h.stuck = errors.New("no answer")
	f, _ := open(t, newDir(t), h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	n, err := f.AttachInterface(i.ID, eni(1))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "attached", func() bool { return progress(f, i.ID) == Attached })
	if err := f.DetachInterface(i.ID, n.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asked", func() bool { return !h.connected(n.ID) })
	if progress(f, i.ID) != Detaching {
		t.Errorf("it is %s", progress(f, i.ID))
	}
	if _, err := f.Stop([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	if stopped := reaches(t, f, i.ID, Stopped); len(stopped.Interfaces) != 0 {
		t.Errorf("it keeps %+v", stopped.Interfaces)
	}
}

func TestInterfacesThatAnInstanceCannotHaveAreRefused(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	i := reaches(t, f, launch(t, f, order()).ID, Running) // a t3.medium, of three interfaces
	for _, index := range []int{1, 2} {
		n := eni(index)
		n.ID += "0"
		if _, err := f.AttachInterface(i.ID, n); err != nil {
			t.Fatal(err)
		}
	}
	for _, index := range []int{0, 1} {
		if _, err := f.AttachInterface(i.ID, eni(index)); !errors.Is(err, ErrIndexInUse) {
			t.Errorf("index %d: %v", index, err)
		}
	}
	var limit *LimitError
	if _, err := f.AttachInterface(i.ID, eni(3)); !errors.As(err, &limit) || limit.Count != 4 || limit.Type != "t3.medium" {
		t.Errorf("got %v", err)
	}
	now, _ := f.get(i.ID)
	if now.Interfaces[0].Slot == now.Interfaces[1].Slot {
		t.Errorf("two are in slot %d", now.Interfaces[0].Slot)
	}
	if _, err := f.Terminate([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Terminated)
	var ended *StateError
	if _, err := f.AttachInterface(i.ID, eni(1)); !errors.As(err, &ended) {
		t.Errorf("got %v", err)
	}
}

func TestNoInstanceGetsAnAddressThatIsTaken(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	taken := netip.MustParseAddr("10.0.16.200")
	_, err := f.Launch(order(func(o *Order) { o.Address, o.Taken = taken, []netip.Addr{taken} }))
	if !errors.Is(err, ErrAddressInUse) {
		t.Errorf("got %v", err)
	}
}
