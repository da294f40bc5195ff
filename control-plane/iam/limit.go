package iam

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSources bounds what a Limiter remembers, whoever calls: a few hundred bytes each.
const maxSources = 4096

// ErrThrottled says that a source asks more often than it may.
var ErrThrottled = errors.New("too many requests from this source")

// Limiter lets every source act so many times a second, and a burst at once. It is safe for
// concurrent use.
type Limiter struct {
	perSecond rate.Limit
	burst     int
	now       func() time.Time

	mu      sync.Mutex
	sources map[string]*rate.Limiter
	others  *rate.Limiter // what sources share for which there is no room
}

// NewLimiter returns a limiter; a nil clock is time.Now.
func NewLimiter(perSecond float64, burst int, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	l := &Limiter{perSecond: rate.Limit(perSecond), burst: burst, now: now, sources: map[string]*rate.Limiter{}}
	l.others = l.fresh()
	return l
}

// Allow returns ErrThrottled when source has to wait.
func (l *Limiter) Allow(source string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	tokens, known := l.sources[source]
	switch {
	case known:
	case l.hasRoom(now):
		tokens = l.fresh()
		l.sources[source] = tokens
	default:
		tokens = l.others
	}
	if !tokens.AllowN(now, 1) {
		return ErrThrottled
	}
	return nil
}

func (l *Limiter) fresh() *rate.Limiter { return rate.NewLimiter(l.perSecond, l.burst) }

// hasRoom tells whether one more source can be remembered, and forgets those that have not
// acted lately for it. One that has is never forgotten: it would begin anew.
func (l *Limiter) hasRoom(now time.Time) bool {
	if len(l.sources) < maxSources {
		return true
	}
	for source, tokens := range l.sources {
		if tokens.TokensAt(now) >= float64(l.burst) {
			delete(l.sources, source)
		}
	}
	return len(l.sources) < maxSources
}
