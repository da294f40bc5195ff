package upload

import (
	"testing"
	"time"
)

func TestTheWindowGrowsOnSuccessAndHalvesOnce(t *testing.T) {
	w := newWindow(64)
	for range 8 {
		w.succeeded(time.Millisecond)
	}
	if w.size != 16 {
		t.Fatalf("8 successes make a window of 8 one of %v, want 16", w.size)
	}
	for range 1000 {
		w.succeeded(time.Millisecond)
	}
	if w.size != 64 {
		t.Fatalf("the window has grown to %v, want no more than 64", w.size)
	}
	// All that were under way together are refused together.
	epoch := w.epoch()
	for range 64 {
		w.refused(epoch)
	}
	if w.size != 32 {
		t.Fatalf("one wave of refusals makes it %v, want 32", w.size)
	}
	for range 32 {
		w.succeeded(time.Millisecond)
	}
	if w.size < 32.9 || w.size > 33 {
		t.Errorf("a window's worth of successes after it makes %v, want about 33", w.size)
	}
	for range 100 {
		w.refused(w.epoch())
	}
	if w.size != 1 {
		t.Errorf("it has shrunk to %v, want 1", w.size)
	}
}

func TestTheWindowDoesNotGrowWhereTheWayIsFull(t *testing.T) {
	w := newWindow(64)
	for range 100 {
		w.succeeded(slow + 1)
	}
	if w.size != firstWindow {
		t.Errorf("the window is %v, want %d", w.size, firstWindow)
	}
}

func TestTheWindowDoesNotGrowWhereBlocksQueue(t *testing.T) {
	w := newWindow(64)
	w.succeeded(10 * time.Millisecond)
	for range 100 {
		w.succeeded(31 * time.Millisecond)
	}
	if w.size != firstWindow+1 {
		t.Errorf("the window is %v, want %d", w.size, firstWindow+1)
	}
}
