package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAStoppedInstanceIsStartedWithItsVolumeAndAddress(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	first := h.machine(dir, i.ID)
	changes, err := f.Stop([]string{i.ID}, false)
	if err != nil || len(changes) != 1 || changes[0] != (Change{i.ID, Running, Stopping}) {
		t.Fatalf("stop: %+v, %v", changes, err)
	}
	stopped := reaches(t, f, i.ID, Stopped)
	if first.presses != 1 || h.machine(dir, i.ID) != nil || h.plugged[i.tap()] || !h.has(i.Address) {
		t.Errorf("presses %d, machine %v, plugged %v, named %v", first.presses, h.machine(dir, i.ID), h.plugged[i.tap()], h.has(i.Address))
	}
	if stopped.Reason.Code != ReasonUserShutdown {
		t.Errorf("reason %+v", stopped.Reason)
	}
	changes, err = f.Stop([]string{i.ID}, false)
	if err != nil || changes[0] != (Change{i.ID, Stopped, Stopped}) {
		t.Errorf("stop again: %+v, %v", changes, err)
	}

	changes, err = f.Start([]string{i.ID})
	if err != nil || changes[0] != (Change{i.ID, Stopped, Pending}) {
		t.Fatalf("start: %+v, %v", changes, err)
	}
	again := reaches(t, f, i.ID, Running)
	if h.restarts != 1 || again.Address != i.Address || again.VolumeID != i.VolumeID || !h.machine(dir, i.ID).resumed || !h.plugged[i.tap()] {
		t.Errorf("restarts %d, instance %+v", h.restarts, again)
	}
	if !again.Started().After(i.Started()) || !again.LaunchTime.Equal(i.LaunchTime) {
		t.Errorf("started at %s, first at %s", again.Started(), again.LaunchTime)
	}
	if changes, err := f.Start([]string{i.ID}); err != nil || changes[0] != (Change{i.ID, Running, Running}) {
		t.Errorf("start again: %+v, %v", changes, err)
	}
}

func TestNothingIsUnderWayWithTheVolumesOfAStoppedInstance(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	err := f.amend(i.ID, func(i *Instance) { // as the guest may leave it
		i.Volumes = []Volume{{ID: "vol-1", State: Attaching}, {ID: "vol-2", State: Detaching}, {ID: "vol-3", State: Attached}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stop([]string{i.ID}, false); err != nil {
		t.Fatal(err)
	}
	stopped := reaches(t, f, i.ID, Stopped)
	if v := stopped.Volumes; len(v) != 2 || v[0].ID != "vol-1" || v[0].State != Attached || v[1].ID != "vol-3" {
		t.Errorf("volumes %+v", v)
	}
}

func TestAnInstanceThatCannotBeStartedAgainIsStoppedWithTheReason(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, _ := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	if _, err := f.Stop([]string{i.ID}, true); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Stopped)
	h.mu.Lock()
	h.failing = errors.New("QEMU said: no memory")
	h.mu.Unlock()
	if _, err := f.Start([]string{i.ID}); err != nil {
		t.Fatal(err)
	}
	if i := reaches(t, f, i.ID, Stopped); i.Reason.Code != ReasonServerError || !strings.Contains(i.Reason.Message, "no memory") {
		t.Errorf("reason %+v", i.Reason)
	}
	if _, err := f.Terminate([]string{i.ID}, false); err != nil {
		t.Fatal(err)
	}
	reaches(t, f, i.ID, Terminated)
}

func TestARebootBootsAnewAndLeavesTheInstanceRunning(t *testing.T) {
	h, dir := newHost(), newDir(t)
	h.deaf = true
	f, _ := open(t, dir, h, func(o *Options) { o.ShutdownLimit = 10 * time.Millisecond })
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	first := h.machine(dir, i.ID)
	if err := f.Reboot([]string{i.ID}); err != nil {
		t.Fatal(err)
	}
	<-first.gone
	for deadline := time.Now().Add(10 * time.Second); ; {
		now, _ := f.get(i.ID)
		if now.State != Running || time.Now().After(deadline) {
			t.Fatalf("the instance is %s", now.State)
		}
		if !now.Rebooting {
			break
		}
	}
	if second := h.machine(dir, i.ID); second == nil || second == first || !second.resumed || h.restarts != 1 || first.presses == 0 {
		t.Errorf("the machine is %+v, after %d restarts", second, h.restarts)
	}
}

func TestANewDaemonCarriesOnWithStopsStartsAndReboots(t *testing.T) {
	h, dir := newHost(), newDir(t)
	first, stop := open(t, dir, h)
	var ids []string
	for range 4 {
		ids = append(ids, reaches(t, first, launch(t, first, order()).ID, Running).ID)
	}
	stopped, starting, stopping, rebooting := ids[0], ids[1], ids[2], ids[3]
	if _, err := first.Stop([]string{stopped, starting}, false); err != nil {
		t.Fatal(err)
	}
	reaches(t, first, stopped, Stopped)
	reaches(t, first, starting, Stopped)
	stop() // what comes now is recorded, and the daemon died before it acted
	_, err1 := first.Start([]string{starting})
	_, err2 := first.Stop([]string{stopping}, false)
	if err := errors.Join(err1, err2, first.Reboot([]string{rebooting})); err != nil {
		t.Fatal(err)
	}
	old := h.machine(dir, rebooting)

	second, _ := open(t, dir, h)
	reaches(t, second, starting, Running)
	reaches(t, second, stopping, Stopped)
	reaches(t, second, stopped, Stopped)
	<-old.gone
	reaches(t, second, rebooting, Running)
}

func TestWhatAnInstancesStateForbids(t *testing.T) {
	h, dir := newHost(), newDir(t)
	f, stop := open(t, dir, h)
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	spot := reaches(t, f, launch(t, f, order(func(o *Order) { o.Spot = InterruptionTerminate })).ID, Running)
	stop()
	fresh := launch(t, f, order())
	var state *StateError
	var once *OneTimeError
	if _, err := f.Stop([]string{i.ID, fresh.ID}, false); !errors.As(err, &state) || state.ID != fresh.ID || state.State != Pending {
		t.Errorf("stop of a pending one: %v", err)
	}
	if now, _ := f.get(i.ID); now.State != Running {
		t.Errorf("a refused call has changed one of its instances to %s", now.State)
	}
	if _, err := f.Stop([]string{spot.ID}, false); !errors.As(err, &once) {
		t.Errorf("stop of a one-time spot instance: %v", err)
	}
	if _, err := f.Stop([]string{i.ID}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start([]string{i.ID}); !errors.As(err, &state) || state.State != Stopping {
		t.Errorf("start of a stopping one: %v", err)
	}
	if err := f.Reboot([]string{i.ID}); !errors.As(err, &state) {
		t.Errorf("reboot of a stopping one: %v", err)
	}
	var missing *NotFoundError
	if err := f.Reboot([]string{i.ID, "i-none"}); !errors.As(err, &missing) {
		t.Errorf("reboot of none: %v", err)
	}
}

func TestASpotInterruptionIsCarriedOutWhenItsTimeComes(t *testing.T) {
	for spot, want := range map[string]struct {
		state  State
		reason string
	}{InterruptionTerminate: {Terminated, ReasonSpotTerminate}, InterruptionStop: {Stopped, ReasonSpotStop}} {
		t.Run(spot, func(t *testing.T) {
			h, dir := newHost(), newDir(t)
			first, stop := open(t, dir, h)
			i := reaches(t, first, launch(t, first, order(func(o *Order) { o.Spot = spot })).ID, Running)
			m := h.machine(dir, i.ID)
			if err := first.Notify(i.ID, Notice{Event: SpotInterruption, In: time.Hour}); err != nil {
				t.Fatal(err)
			}
			stop()
			// The next daemon finds the announcement, and that its time has come.
			second, _ := open(t, dir, h, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Hour) } })
			if i := reaches(t, second, i.ID, want.state); i.Reason.Code != want.reason || i.Notices.Interruption.Action != spot {
				t.Errorf("%+v, %+v", i.Reason, i.Notices)
			}
			if m.presses != 1 {
				t.Error("the guest was not asked to shut down")
			}
			if want.state != Stopped {
				return
			}
			if _, err := second.Start([]string{i.ID}); err != nil {
				t.Fatal(err)
			}
			if i := reaches(t, second, i.ID, Running); i.Notices.Interruption != nil {
				t.Error("it is still to be interrupted")
			}
		})
	}
}

func TestAWithdrawnInterruptionDoesNotHappen(t *testing.T) {
	h, dir := newHost(), newDir(t)
	now := time.Now()
	f, _ := open(t, dir, h, func(o *Options) { o.Now = func() time.Time { return now } })
	i := reaches(t, f, launch(t, f, order(func(o *Order) { o.Spot = InterruptionTerminate })).ID, Running)
	for _, n := range []Notice{{Event: SpotInterruption, In: time.Hour}, {Event: SpotInterruption, Cancel: true}} {
		if err := f.Notify(i.ID, n); err != nil {
			t.Fatal(err)
		}
	}
	if now, _ := f.get(i.ID); now.State != Running || now.Notices.Interruption != nil {
		t.Errorf("%s, %+v", now.State, now.Notices)
	}
}

func TestWhatCannotBeAnnounced(t *testing.T) {
	f, _ := open(t, newDir(t), newHost())
	i := reaches(t, f, launch(t, f, order()).ID, Running)
	for name, c := range map[string]struct {
		id     string
		notice Notice
		says   string
	}{
		"an unknown event":                  {i.ID, Notice{Event: "flood"}, `no event "flood"`},
		"to an unknown instance":            {"i-none", Notice{Event: "system-reboot"}, "no instances [i-none]"},
		"an interruption on demand":         {i.ID, Notice{Event: SpotInterruption}, "is on demand"},
		"a rebalance on demand":             {i.ID, Notice{Event: Rebalance}, "is on demand"},
		"an unknown lifecycle state":        {i.ID, Notice{Event: LifecycleState, State: "Lost"}, `"Lost"`},
		"a lifecycle state in a while":      {i.ID, Notice{Event: LifecycleState, State: "InService", In: 1}, "takes no time"},
		"the past":                          {i.ID, Notice{Event: "system-reboot", In: -1}, "past"},
		"a state of an event without":       {i.ID, Notice{Event: "system-reboot", State: "InService"}, "takes no state"},
		"the end of what was not announced": {i.ID, Notice{Event: "system-reboot", Cancel: true}, "no system-reboot is scheduled"},
	} {
		if err := f.Notify(c.id, c.notice); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
