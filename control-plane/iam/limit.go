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
}

// NewLimiter returns a limiter; a nil clock is time.Now.
func NewLimiter(perSecond float64, burst int, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{perSecond: rate.Limit(perSecond), burst: burst, now: now, sources: map[string]*rate.Limiter{}}
}

// Allow returns ErrThrottled when source has to wait.
func (l *Limiter) Allow(source string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	tokens, known := l.sources[source]
	if !known {
		l.makeRoom(now)
		tokens = rate.NewLimiter(l.perSecond, l.burst)
		l.sources[source] = tokens
	}
	if !tokens.AllowN(now, 1) {
		return ErrThrottled
	}
	return nil
}

// makeRoom forgets the sources that have not acted lately, or else any.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.sources) < maxSources {
		return
	}
	for source, tokens := range l.sources {
		if tokens.TokensAt(now) >= float64(l.burst) {
			delete(l.sources, source)
		}
	}
	for source := range l.sources {
		if len(l.sources) < maxSources {
			return
		}
		delete(l.sources, source)
	}
}
