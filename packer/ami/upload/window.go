package upload

import (
	"context"
	"sync"
	"time"
)

// How the count of requests at once moves.
const (
	firstWindow = 8
	// An attempt that takes this long, or this many times as long as the quickest, waits for
	// others: more at once would only bring all of them nearer to their deadline.
	slow   = 2 * time.Second
	queued = 3
)

// window limits how many requests are under way, by additive increase and multiplicative
// decrease: it grows with each success, doubling in as many successes as it is wide until
// the first refusal and by one after it, and halves on throttling or a timeout. It stops
// growing where blocks begin to queue.
type window struct {
	mu     sync.Mutex
	size   float64
	most   int
	busy   int
	cuts   int // how often it was halved
	best   time.Duration
	change chan struct{}
}

func newWindow(most int) *window {
	return &window{size: float64(min(firstWindow, most)), most: most, change: make(chan struct{}, 1)}
}

// acquire waits for a place. One goroutine calls it.
func (w *window) acquire(ctx context.Context) error {
	for {
		w.mu.Lock()
		ok := w.busy < int(w.size)
		if ok {
			w.busy++
		}
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-w.change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *window) release() {
	w.mu.Lock()
	w.busy--
	w.mu.Unlock()
	w.changed()
}

func (w *window) changed() {
	select {
	case w.change <- struct{}{}:
	default:
	}
}

// epoch marks the start of an attempt, for refused.
func (w *window) epoch() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

// succeeded hears of an attempt that took d.
func (w *window) succeeded(d time.Duration) {
	w.mu.Lock()
	if w.best == 0 || d < w.best {
		w.best = d
	}
	if d > slow || d > queued*w.best {
		w.mu.Unlock()
		return
	}
	growth := 1.0
	if w.cuts > 0 {
		growth = 1 / w.size
	}
	w.size = min(float64(w.most), w.size+growth)
	w.mu.Unlock()
	w.changed()
}

// refused halves the window, once for all attempts that started before it was last halved.
func (w *window) refused(epoch int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if epoch == w.cuts {
		w.size = max(1, w.size/2)
		w.cuts++
	}
}
