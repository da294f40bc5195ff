package iam

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// stsAlike answers for tokens of the form "AUDIENCE ARN", and counts. The ARN up to a slash is
// the access key's ID.
type stsAlike struct {
	mu      sync.Mutex
	asked   int
	err     error
	expired bool
	began   chan struct{} // nil: nobody waits for a call to begin
	hold    chan struct{} // nil: answers at once
}

func (s *stsAlike) Check(token string) (string, error) {
	if s.expired {
		return "", ststoken.ErrInvalid
	}
	_, arn, _ := strings.Cut(token, " ")
	id, _, _ := strings.Cut(arn, "/")
	return id, nil
}

func (s *stsAlike) Verify(ctx context.Context, token, audience string) (ststoken.Identity, error) {
	s.mu.Lock()
	s.asked++
	err := s.err
	s.mu.Unlock()
	if s.began != nil {
		s.began <- struct{}{}
	}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ststoken.Identity{}, ctx.Err()
		}
	}
	arn, ok := strings.CutPrefix(token, audience+" ")
	switch {
	case err != nil:
		return ststoken.Identity{}, err
	case !ok:
		return ststoken.Identity{}, ststoken.ErrInvalid
	}
	return ststoken.Identity{ARN: arn}, nil
}

func (s *stsAlike) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// ticking is a clock that a test moves.
type ticking struct {
	mu sync.Mutex
	at time.Time
}

func (c *ticking) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *ticking) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func cached(sts *stsAlike, burst int) (*CachedTokens, *ticking) {
	clock := &ticking{at: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	return NewCachedTokens(sts, NewLimiter(1, burst, clock.now), 200*time.Millisecond, clock.now), clock
}

func TestSTSIsAskedOnceAboutATokenForAWhile(t *testing.T) {
	sts := &stsAlike{}
	tokens, clock := cached(sts, 100)
	verify := func(token, audience string) error {
		_, err := tokens.Verify(t.Context(), token, audience)
		return err
	}
	for _, step := range []struct {
		name     string
		pass     time.Duration
		token    string
		audience string
		invalid  bool
		asked    int
	}{
		{"the first time", 0, "kitchen jane", "kitchen", false, 1},
		{"again", identityLife - 1, "kitchen jane", "kitchen", false, 1},
		{"for another audience", 0, "kitchen jane", "pantry", true, 2},
		{"another token", 0, "kitchen joe", "kitchen", false, 3},
		{"after a while", 1, "kitchen jane", "kitchen", false, 4},
		{"a bad one", 0, "bad", "kitchen", true, 5},
		{"a bad one again", 0, "bad", "kitchen", true, 5},
		{"a bad one a little later", refusalLife, "bad", "kitchen", true, 6},
	} {
		clock.pass(step.pass)
		if err := verify(step.token, step.audience); errors.Is(err, ststoken.ErrInvalid) != step.invalid || (err != nil) != step.invalid || sts.calls() != step.asked {
			t.Errorf("%s: %v, STS asked %d times, want %d", step.name, err, sts.calls(), step.asked)
		}
	}
	sts.expired = true
	if err := verify("kitchen joe", "kitchen"); !errors.Is(err, ststoken.ErrInvalid) {
		t.Errorf("a token that ended while its identity was remembered: %v", err)
	}
}

func TestAnOutageOfSTSIsNoRefusalAndSoonOver(t *testing.T) {
	sts := &stsAlike{err: ststoken.ErrUnreachable}
	tokens, clock := cached(sts, 100)
	for i := range 3 {
		if _, err := tokens.Verify(t.Context(), fmt.Sprintf("kitchen %d", i), "kitchen"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ststoken.ErrInvalid) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if sts.calls() != 1 {
		t.Errorf("STS was asked %d times while it was known to be away", sts.calls())
	}
	sts.err = nil
	clock.pass(outageLife)
	if _, err := tokens.Verify(t.Context(), "kitchen jane", "kitchen"); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestAStrangerWhomSTSThrottlesKeepsNobodyOut(t *testing.T) {
	sts := &stsAlike{err: errors.New("answered 429")}
	tokens, _ := cached(sts, 100)
	for range 3 {
		if _, err := tokens.Verify(t.Context(), "kitchen stranger", "kitchen"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ststoken.ErrInvalid) {
			t.Errorf("the stranger: got %v, want ErrUnavailable", err)
		}
	}
	if sts.calls() != 1 {
		t.Errorf("STS was asked %d times within a second", sts.calls())
	}
	sts.err = nil
	if _, err := tokens.Verify(t.Context(), "kitchen jane", "kitchen"); err != nil {
		t.Errorf("everybody else: %v", err)
	}
}

func TestAnSTSThatHangsIsAnOutage(t *testing.T) {
	sts := &stsAlike{hold: make(chan struct{})}
	tokens, _ := cached(sts, 100)
	if _, err := tokens.Verify(t.Context(), "kitchen jane", "kitchen"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestCallersOfOneTokenShareOneCallThatOutlivesTheFirst(t *testing.T) {
	sts := &stsAlike{began: make(chan struct{}), hold: make(chan struct{})}
	tokens, _ := cached(sts, 100)
	tokens.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := tokens.Verify(ctx, "kitchen jane", "kitchen")
		first <- err
	}()
	<-sts.began
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := tokens.Verify(t.Context(), "kitchen jane", "kitchen")
		second <- err
	}()
	close(sts.hold)
	if err := <-second; err != nil || sts.calls() != 1 {
		t.Errorf("the second: %v, after %d calls", err, sts.calls())
	}
}

func TestOnlyWhatSTSIsAskedCountsAgainstItsSource(t *testing.T) {
	tokens, clock := cached(&stsAlike{}, 2)
	from := func(source, token string) error {
		_, err := tokens.Verify(WithSource(t.Context(), source), token, "kitchen")
		return err
	}
	for range 5 {
		if err := from("192.0.2.1", "kitchen jane"); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(from("192.0.2.1", "kitchen joe"), from("192.0.2.1", "kitchen jane")); err != nil {
		t.Error(err)
	}
	if err := from("192.0.2.1", "kitchen jim"); !errors.Is(err, ErrThrottled) {
		t.Errorf("a third token: got %v, want ErrThrottled", err)
	}
	if err := from("192.0.2.2", "kitchen jim"); err != nil {
		t.Errorf("another source: %v", err)
	}
	clock.pass(time.Second)
	if err := from("192.0.2.1", "kitchen jack"); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestInventedTokensLockOutNobodyWhoseKeyIsKnown(t *testing.T) {
	tokens, clock := cached(&stsAlike{}, 2)
	verify := func(token string) error {
		_, err := tokens.Verify(t.Context(), token, "kitchen")
		return err
	}
	if err := verify("kitchen jane/1"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		_ = verify(fmt.Sprintf("bad %d", i))
	}
	if err := verify("kitchen joe/1"); !errors.Is(err, ErrThrottled) {
		t.Errorf("whom nobody knows yet: got %v, want ErrThrottled", err)
	}
	if err := errors.Join(verify("kitchen jane/2"), verify("kitchen jane/3")); err != nil {
		t.Errorf("who is known: %v", err)
	}
	if err := verify("kitchen jane/4"); !errors.Is(err, ErrThrottled) {
		t.Errorf("who is known, and asks too often: got %v, want ErrThrottled", err)
	}
	if err := verify("bad jane/1"); !errors.Is(err, ErrThrottled) {
		t.Errorf("an invented token with the ID of a known key: got %v, want ErrThrottled", err)
	}
	clock.pass(regularFor)
	for i := range 2 {
		_ = verify(fmt.Sprintf("bad %d", i))
	}
	if err := verify("kitchen jane/5"); !errors.Is(err, ErrThrottled) {
		t.Errorf("who was known: got %v, want ErrThrottled", err)
	}
}

func TestNobodyWhoIsKnownMakesRoomForOthers(t *testing.T) {
	tokens, clock := cached(&stsAlike{}, 1)
	for i := range maxRegulars + 10 {
		tokens.welcome(fmt.Sprint(i))
	}
	if _, ok := tokens.regulars["0"]; !ok || len(tokens.regulars) != maxRegulars {
		t.Errorf("%d are known, the first %t", len(tokens.regulars), ok)
	}
	clock.pass(regularFor)
	if tokens.welcome("x"); len(tokens.regulars) != 1 {
		t.Errorf("%d are known after their time", len(tokens.regulars))
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	tokens, _ := cached(&stsAlike{}, maxAnswers*2)
	for i := range maxAnswers + 10 {
		if _, err := tokens.Verify(t.Context(), fmt.Sprintf("kitchen %d", i), "kitchen"); err != nil {
			t.Fatal(err)
		}
	}
	if len(tokens.answers) > maxAnswers {
		t.Errorf("%d answers", len(tokens.answers))
	}
}

func TestSourcesForWhichThereIsNoRoomShareWhatOneMayDo(t *testing.T) {
	clock := &ticking{at: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	limit := NewLimiter(1, 2, clock.now)
	for i := range maxSources {
		if err := errors.Join(limit.Allow(fmt.Sprint(i)), limit.Allow(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(limit.Allow("x"), limit.Allow("y")); err != nil {
		t.Error(err)
	}
	for _, source := range []string{"z", "0"} {
		if err := limit.Allow(source); !errors.Is(err, ErrThrottled) {
			t.Errorf("%s: got %v, want ErrThrottled", source, err)
		}
	}
	clock.pass(2 * time.Second)
	if err := limit.Allow("z"); err != nil || len(limit.sources) != 1 {
		t.Errorf("once the others are idle: %v, %d sources", err, len(limit.sources))
	}
}
