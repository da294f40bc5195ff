package supervise

import (
	"math/rand/v2"
	"time"
)

// Delays says how long to wait before starting a component again.
type Delays struct {
	First time.Duration // the longest wait after the first failure; doubles with each further one
	Most  time.Duration // what the doubling stops at
	Well  time.Duration // ready for this long, a component's past failures are forgotten
}

// limit is the longest wait after the given number of earlier failures in a row.
func (d Delays) limit(failures int) time.Duration {
	limit := d.First
	for range failures {
		if limit *= 2; limit >= d.Most {
			return d.Most
		}
	}
	return limit
}

// restarts counts a component's failures.
type restarts struct {
	Delays
	failures int
}

// next returns how long to wait after a failure at now, of a component that was ready since
// readySince (zero: was not). The whole wait is drawn at random, so that components that
// failed together do not come back together.
func (r *restarts) next(readySince, now time.Time) time.Duration {
	if !readySince.IsZero() && now.Sub(readySince) >= r.Well {
		r.failures = 0
	}
	limit := r.limit(r.failures)
	r.failures++
	return rand.N(limit + 1)
}
