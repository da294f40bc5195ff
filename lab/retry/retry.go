// Package retry says how long to wait before the next try.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows from First to Limit, doubling, each wait shortened by up to a quarter at
// random so that tries do not fall in step. The zero value of its counter is the start.
type Backoff struct {
	First, Limit time.Duration
	tries        int
}

// Next is the wait before the next try.
func (b *Backoff) Next() time.Duration {
	wait := b.First << min(b.tries, 20)
	if wait <= 0 || wait >= b.Limit {
		wait = b.Limit
	} else {
		b.tries++
	}
	return wait - rand.N(wait/4+1) //nolint:gosec // no secret depends on it
}

// Reset starts over, after something has gone well.
func (b *Backoff) Reset() { b.tries = 0 }

// Wait waits for d, or answers the context's error when that ends first.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
