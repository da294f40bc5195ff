package iam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	// identityLife is how long STS's word about a token is taken for true. AWS's own
	// revocations, of a session or a role, bite that much later.
	identityLife = 30 * time.Second
	// refusalLife is short: a clock that is set right, or a role that appears, must not wait.
	refusalLife = 2 * time.Second
	// outageLife spares STS, and callers a wait, while it does not answer or is in trouble.
	outageLife = time.Second
	// maxAnswers bounds the cache: an answer is about 300 bytes.
	maxAnswers = 16384
	// regularFor is how long an access key that has signed a good token is told apart from
	// invented ones. A kubectl makes a token every 15 minutes while it is used.
	regularFor = time.Hour
	// maxRegulars bounds how many are: about 100 bytes each.
	maxRegulars = 16384
)

// ErrUnavailable says that STS could not be asked: nothing is known about the token.
var ErrUnavailable = errors.New("AWS STS cannot be asked")

// CachedTokens verifies tokens and remembers the answers, keyed by a hash of token and
// audience, for less than the token lives. Only what the cache does not know counts against
// a limit: that of the access key, if it has signed a good token from the same source lately,
// else that which all other keys of the source share. So nobody locks others out with tokens
// that he invents. It is safe for concurrent use.
type CachedTokens struct {
	sts     Tokens
	limit   *Limiter // of sources
	keys    *Limiter // of regulars
	timeout time.Duration
	now     func() time.Time
	calls   singleflight.Group

	mu       sync.Mutex
	answers  map[[sha256.Size]byte]answer
	regulars map[string]time.Time // since when, by regular
	outage   answer               // the last one
}

type answer struct {
	identity ststoken.Identity
	err      error
	until    time.Time
}

// NewCachedTokens returns a cache in front of sts. Each source, and each access key of it that
// is known, has the limit. A call to STS may take as long as timeout; a nil clock is time.Now.
func NewCachedTokens(sts Tokens, limit *Limiter, timeout time.Duration, now func() time.Time) *CachedTokens {
	if now == nil {
		now = time.Now
	}
	return &CachedTokens{
		sts: sts, limit: limit, keys: NewLimiter(float64(limit.perSecond), limit.burst, limit.now), timeout: timeout, now: now,
		answers: map[[sha256.Size]byte]answer{}, regulars: map[string]time.Time{},
	}
}

type sourceKey struct{}

// WithSource names where a call comes from, for limits.
func WithSource(ctx context.Context, source string) context.Context {
	return context.WithValue(ctx, sourceKey{}, source)
}

// Check implements Tokens.
func (c *CachedTokens) Check(token string) (accessKeyID string, err error) { return c.sts.Check(token) }

// Verify returns who made the token, if it was made for the cluster, which may also be an
// audience (ststoken.APIAudience). Errors are ststoken.ErrInvalid, ErrThrottled,
// ErrUnavailable, or that of ctx. Without a source in ctx, the cluster is the source.
func (c *CachedTokens) Verify(ctx context.Context, token, cluster string) (ststoken.Identity, error) {
	// Every time: a cached identity ends with its token.
	accessKeyID, err := c.sts.Check(token)
	if err != nil {
		return ststoken.Identity{}, err
	}
	key := sha256.Sum256([]byte(cluster + "\x00" + token))
	if known, ok := c.known(key); ok {
		return known.identity, known.err
	}
	source, ok := ctx.Value(sourceKey{}).(string)
	if !ok {
		source = "cluster " + cluster
	}
	regular := source + " " + accessKeyID
	if err := c.allow(source, regular); err != nil {
		return ststoken.Identity{}, err
	}
	// The answer is for everyone who waits for it, so it does not end with the first of them.
	wait := c.calls.DoChan(string(key[:]), func() (any, error) {
		fresh := c.ask(context.WithoutCancel(ctx), key, token, cluster)
		if fresh.err == nil {
			c.welcome(regular)
		}
		return fresh, nil
	})
	select {
	case result := <-wait:
		fresh, _ := result.Val.(answer)
		return fresh.identity, fresh.err
	case <-ctx.Done():
		return ststoken.Identity{}, ctx.Err()
	}
}

func (c *CachedTokens) allow(source, regular string) error {
	c.mu.Lock()
	since, ok := c.regulars[regular]
	c.mu.Unlock()
	if ok && c.now().Sub(since) < regularFor {
		return c.keys.Allow(regular)
	}
	return c.limit.Allow(source)
}

// welcome remembers an access key that has signed a good token. Where there is no room, those
// who are known stay: whoever has many keys must not make them strangers.
func (c *CachedTokens) welcome(regular string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if _, ok := c.regulars[regular]; !ok && len(c.regulars) >= maxRegulars {
		maps.DeleteFunc(c.regulars, func(_ string, since time.Time) bool { return now.Sub(since) >= regularFor })
		if len(c.regulars) >= maxRegulars {
			return
		}
	}
	c.regulars[regular] = now
}

func (c *CachedTokens) known(key [sha256.Size]byte) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if known, ok := c.answers[key]; ok {
		if now.Before(known.until) {
			return known, true
		}
		delete(c.answers, key)
	}
	return c.outage, now.Before(c.outage.until)
}

func (c *CachedTokens) ask(ctx context.Context, key [sha256.Size]byte, token, cluster string) answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	identity, err := c.sts.Verify(ctx, token, cluster)

	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	switch {
	case err == nil:
		return c.keep(key, answer{identity: identity, until: now.Add(identityLife)})
	case errors.Is(err, ststoken.ErrInvalid):
		return c.keep(key, answer{err: err, until: now.Add(refusalLife)})
	}
	unsure := answer{err: fmt.Errorf("%w: %w", ErrUnavailable, err), until: now.Add(outageLife)}
	// STS throttles the account that signed, so an answer like that is about one token only:
	// a stranger with an account of his own must not keep everybody else out.
	if errors.Is(err, ststoken.ErrUnreachable) {
		c.outage = unsure
		return unsure
	}
	return c.keep(key, unsure)
}

// keep remembers an answer, in the place of outdated ones or else of any.
func (c *CachedTokens) keep(key [sha256.Size]byte, fresh answer) answer {
	if len(c.answers) >= maxAnswers {
		now := c.now()
		for k, old := range c.answers {
			if !now.Before(old.until) {
				delete(c.answers, k)
			}
		}
	}
	for k := range c.answers {
		if len(c.answers) < maxAnswers {
			break
		}
		delete(c.answers, k)
	}
	c.answers[key] = fresh
	return fresh
}
