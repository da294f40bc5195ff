package fakeinstance

import (
	"errors"
	"testing"

	"github.com/ovenbird-dev/ovenbird/lab/vm"
)

func TestAMachineIsFoundAgainByTheNextProcessUntilItIsKilled(t *testing.T) {
	dir := t.TempDir()
	first := New(nil)
	if _, err := first.Start(t.Context(), vm.Spec{Instance: "i-1", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	first.Close()
	next := New(nil)
	m, err := next.Adopt(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-m.Halted()
	m.Kill()
	<-m.Gone()
	if _, err := next.Adopt(t.Context(), dir); !errors.Is(err, vm.ErrNotRunning) {
		t.Errorf("after it was killed: %v", err)
	}
}

func TestTheSameSeedGivesTheSameFates(t *testing.T) {
	draw := func(c *Chances) (fates []Fate) {
		for range 100 {
			fates = append(fates, c.draw())
		}
		return fates
	}
	a, b := draw(&Chances{Seed: 7, Silent: 0.3, Fails: 0.3}), draw(&Chances{Seed: 7, Silent: 0.3, Fails: 0.3})
	seen := map[Fate]int{}
	for i := range a {
		if seen[a[i]]++; a[i] != b[i] {
			t.Fatalf("draw %d: %q and %q", i, a[i], b[i])
		}
	}
	if seen[""] == 0 || seen[Silent] == 0 || seen[Fails] == 0 || len(seen) != 3 {
		t.Errorf("fates: %v", seen)
	}
	if got := (&Chances{FailsToStart: 1}).draw(); got != FailsToStart {
		t.Errorf("what is certain was %q", got)
	}
	var none *Chances
	if got := none.draw(); got != "" {
		t.Errorf("without chances: %q", got)
	}
}

func TestAMachineThatIsToFailDoesNotStart(t *testing.T) {
	m := New(&Chances{FailsToStart: 1})
	dir := t.TempDir()
	if _, err := m.Start(t.Context(), vm.Spec{Instance: "i-1", Dir: dir}); err == nil {
		t.Error("it started")
	}
	if _, err := m.Adopt(t.Context(), dir); !errors.Is(err, vm.ErrNotRunning) {
		t.Errorf("it is found: %v", err)
	}
}
