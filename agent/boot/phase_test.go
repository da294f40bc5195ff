package boot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/advice"
)

func TestDelayDoublesToACap(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 250 * time.Millisecond, 2: 500 * time.Millisecond, 3: time.Second, 6: 8 * time.Second,
		7: 15 * time.Second, 8: 15 * time.Second, 1000: 15 * time.Second, 1 << 40: 15 * time.Second,
	} {
		if got := delay(failures, 0, 0); got != want {
			t.Errorf("after %d failures: %s, want %s", failures, got, want)
		}
		if got := delay(failures, 0, 0.999999); got < want/2 || got > want/2+want/100 {
			t.Errorf("after %d failures at most jitter: %s, want half of %s", failures, got, want)
		}
	}
}

func TestAPhaseCanHaveACapOfItsOwn(t *testing.T) {
	if got := delay(9, time.Second, 0); got != time.Second {
		t.Errorf("got %s", got)
	}
}

// stepClock counts what it is asked for and waits for nothing.
type stepClock struct {
	mu     sync.Mutex
	now    time.Duration
	sleeps []time.Duration
}

func (c *stepClock) Now() time.Time { return time.Unix(0, 0) }
func (c *stepClock) SinceBoot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}
func (c *stepClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
	c.sleeps = append(c.sleeps, d)
	return ctx.Err()
}

func newRunner() (*runner, *stepClock, *[]Status) {
	clock, reports := &stepClock{now: 3 * time.Second}, &[]Status{}
	return &runner{
		clock: clock, random: func() float64 { return 0 },
		report: func(s Status, _ PhaseStatus) { *reports = append(*reports, s) },
	}, clock, reports
}

func succeed(context.Context, func(string)) error { return nil }

func TestAPhaseIsTriedUntilItSucceeds(t *testing.T) {
	r, clock, reports := newRunner()
	attempts := 0
	err := r.run(t.Context(), []Phase{{Name: "a", Attempt: time.Minute, Run: func(_ context.Context, tell func(string)) error {
		if attempts++; attempts < 4 {
			tell("something\nlong")
			return errors.New("not\nyet")
		}
		return nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}; !slices.Equal(clock.sleeps, want) {
		t.Errorf("slept %v, want %v", clock.sleeps, want)
	}
	last := (*reports)[len(*reports)-1]
	if want := []float64{3, 3.25, 3.75}; !slices.Equal(last.Phases[0].Failed, want) {
		t.Errorf("failed at %v, want %v", last.Phases[0].Failed, want)
	}
	var states []string
	for _, report := range *reports {
		p := report.Phases[0]
		states = append(states, string(p.State)+" "+p.Detail)
		if p.State == Retrying && (p.NextTry == nil || p.LastError != "not yet") {
			t.Errorf("got %+v", p)
		}
	}
	one := []string{"running ", "running something long", "retrying something long"}
	if want := slices.Concat(one, one, one, []string{"running ", "done "}); !slices.Equal(states, want) {
		t.Errorf("reported %q, want %q", states, want)
	}
	got := r.status.Phases[0]
	if got.Attempts != 4 || *got.Started != 3 || *got.Finished != 4.75 || got.NextTry != nil {
		t.Errorf("got %+v", got)
	}
}

func TestAPhaseWaitsForWhatItNeedsAndForNothingElse(t *testing.T) {
	r, _, _ := newRunner()
	both := make(chan struct{})
	var order []string
	var mu sync.Mutex
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, name)
	}
	err := r.run(t.Context(), []Phase{
		{Name: "first", Attempt: time.Minute, Run: func(context.Context, func(string)) error { note("first"); return nil }},
		// These two need each other to run at the same time.
		{Name: "left", Needs: []string{"first"}, Attempt: time.Minute, Run: func(context.Context, func(string)) error { both <- struct{}{}; return nil }},
		{Name: "right", Needs: []string{"first"}, Attempt: time.Minute, Run: func(context.Context, func(string)) error { <-both; return nil }},
		{Name: "last", Needs: []string{"left", "right"}, Attempt: time.Minute, Run: func(context.Context, func(string)) error { note("last"); return nil }},
	})
	if err != nil || !slices.Equal(order, []string{"first", "last"}) {
		t.Errorf("ran %q, %v", order, err)
	}
}

func TestANeedThatDoesNotComeBeforeIsAMistake(t *testing.T) {
	r, _, _ := newRunner()
	err := r.run(t.Context(), []Phase{{Name: "a", Needs: []string{"b"}, Run: succeed}, {Name: "b", Run: succeed}})
	if err == nil || err.Error() != "phase a needs b, which does not come before it" {
		t.Errorf("got %v", err)
	}
}

func TestAnAttemptEndsAtItsDeadline(t *testing.T) {
	r, _, _ := newRunner()
	attempts := 0
	err := r.run(t.Context(), []Phase{{Name: "a", Attempt: time.Nanosecond, Run: func(ctx context.Context, _ func(string)) error {
		if attempts++; attempts == 1 {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}}})
	if err != nil || r.status.Phases[0].LastError != "still nothing after 1ns" {
		t.Errorf("got %+v, %v", r.status.Phases[0], err)
	}
}

func TestTheEndOfTheContextEndsEverything(t *testing.T) {
	r, _, _ := newRunner()
	ctx, cancel := context.WithCancel(t.Context())
	err := r.run(ctx, []Phase{
		{Name: "a", Attempt: time.Minute, Run: func(context.Context, func(string)) error { cancel(); return errors.New("no") }},
		{Name: "b", Needs: []string{"a"}, Attempt: time.Minute, Run: succeed},
	})
	if !errors.Is(err, context.Canceled) || r.status.Phases[1].State != Waiting {
		t.Errorf("got %v, %+v", err, r.status.Phases)
	}
}

func TestTheTableSaysWhatIsGoingOn(t *testing.T) {
	at := func(s float64) *float64 { return &s }
	status := Status{
		Node: "ip-10-0-1-5", Cluster: "demo", Warnings: []string{"odd"},
		Phases: []PhaseStatus{
			{Name: "metadata", State: Done, Started: at(5.1), Finished: at(5.3), Attempts: 2, LastError: "EOF"},
			{Name: "containerd", State: Running, Started: at(5.4), Attempts: 1},
			{Name: "identity", State: Retrying, Started: at(5.4), Attempts: 7, LastError: "no answer", NextTry: at(42)},
			{Name: "ready", State: Waiting},
		},
	}
	var b strings.Builder
	if err := status.Print(&b, 40*time.Second); err != nil {
		t.Fatal(err)
	}
	want := `ip-10-0-1-5 is joining: containerd, identity (try 7 failed)
warning: odd
PHASE       STATE     SINCE  TOOK   ATTEMPTS  NEXT TRY  LAST ERROR
metadata    done      5.1s   0.2s   2         -         EOF
containerd  running   5.4s   34.6s  1         -
identity    retrying  5.4s   34.6s  7         in 2.0s   no answer
ready       waiting   -      -      0         -
0 calls to instance metadata, 0 calls to AWS APIs, 0 calls to the API server
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	status.Ready = at(53.24)
	if got := status.Headline(); got != "ip-10-0-1-5 is Ready in cluster demo, 53.2s after kernel start" {
		t.Errorf("got %s", got)
	}
}

func TestTheTableSaysWhatToDoInAHundredColumns(t *testing.T) {
	at := func(s float64) *float64 { return &s }
	status := Status{
		Node: "ip-10-0-1-5.us-west-2.compute.internal",
		Phases: []PhaseStatus{
			{Name: "containerd", State: Retrying, Started: at(5.1), Attempts: 4, LastError: "start containerd.service: failed (see journalctl -u containerd.service)", NextTry: at(42),
				Log: []string{"level=fatal msg=" + strings.Repeat("word ", 40)}, WhatToDo: advice.Unit("containerd")},
			{Name: "identity", State: Retrying, Started: at(5.4), Attempts: 7, LastError: "the API server does not accept who is calling: Unauthorized", NextTry: at(42), WhatToDo: advice.AccessEntry},
			{Name: "ready", State: Waiting},
		},
	}
	var b strings.Builder
	if err := status.Print(&b, 40*time.Second); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if columns := len([]rune(strings.TrimSuffix(line, "\n"))); columns > 100 {
			t.Errorf("%d columns: %s", columns, line)
		}
	}
	flat := oneLine(b.String())
	for _, want := range []string{
		"containerd failed: start containerd.service: failed (see journalctl -u containerd.service)", "| level=fatal msg=word",
		"What to do: " + advice.Unit("containerd"), "identity failed: the API server does not accept who is calling: Unauthorized What to do: " + advice.AccessEntry,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

func TestWhatToDoFollowsFromTheError(t *testing.T) {
	for name, test := range map[string]struct {
		phase string
		err   error
		want  string
	}{
		"the disk is full": {"files", &os.PathError{Op: "write", Path: "/etc/x", Err: syscall.ENOSPC}, "The disk is full. " + advice.Space},
		"it is full in a phase with words of its own": {"configuration", withAdvice(syscall.ENOSPC, advice.Image), "The disk is full. " + advice.Space},
		"nobody signs":             {"identity", overdue(3 * time.Minute), advice.RequestPending},
		"no answer to one call":    {"api-server", context.DeadlineExceeded, advice.Connection("the API endpoint")},
		"no pod CIDR":              {"network", overdue(5 * time.Minute), advice.PodNetwork},
		"never Ready":              {"ready", overdue(5 * time.Minute), advice.NodeNotReady},
		"the clock is wrong":       {"identity", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "Either this machine's clock is wrong (`ovenbird-agent doctor`, the row clock) or the API server's certificate is over."},
		"something nobody foresaw": {"scripts", errors.New("odd"), advice.Agent},
	} {
		t.Run(name, func(t *testing.T) {
			if got := advise(test.phase, fmt.Errorf("do it: %w", test.err)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestWhatLastsIsToldOfEverMoreRarely(t *testing.T) {
	r, clock, _ := newRunner()
	var told []time.Duration
	r.lasting = func(context.Context, PhaseStatus) { told = append(told, clock.SinceBoot().Round(time.Minute)) }
	attempts := 0
	err := r.run(t.Context(), []Phase{{Name: "a", Attempt: time.Minute, Run: func(context.Context, func(string)) error {
		if attempts++; attempts < 240 { // an hour of them
			return errors.New("not yet")
		}
		return nil
	}}})
	if err != nil || len(told) != 5 { // after 3, 6, 12, 24 and 48 minutes
		t.Errorf("told at %v, %v", told, err)
	}
}

func TestTheEnvironmentOfTheNodeConfigComesFirst(t *testing.T) {
	env := newEnvironment([]string{"AWS_ENDPOINT_URL=https://process/", "HTTPS_PROXY=http://process:1"}, map[string]map[string]string{
		"default": {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8"}, "systemd_kubelet": {"AWS_ENDPOINT_URL_STS": "https://not-us/"},
	})
	if got := env.stsEndpoint("us-west-2"); got != "https://process/" {
		t.Errorf("STS is %s", got)
	}
	for url, want := range map[string]string{"https://eks.example:443/readyz": "http://proxy:3128", "https://10.0.0.10:6443/readyz": ""} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		proxy, err := env.proxy()(request)
		if err != nil || (proxy == nil) != (want == "") || proxy != nil && proxy.String() != want {
			t.Errorf("%s goes by %v, %v", url, proxy, err)
		}
	}
}

func TestSTSIsTheRegions(t *testing.T) {
	env := newEnvironment(nil, nil)
	for region, want := range map[string]string{
		"us-west-2": "https://sts.us-west-2.amazonaws.com/", "cn-north-1": "https://sts.cn-north-1.amazonaws.com.cn/",
	} {
		if got := env.stsEndpoint(region); got != want {
			t.Errorf("%s: got %s, want %s", region, got, want)
		}
	}
	own := newEnvironment(nil, map[string]map[string]string{"default": {"AWS_ENDPOINT_URL": "https://all/", "AWS_ENDPOINT_URL_STS": "https://sts/"}})
	if got := own.stsEndpoint("us-west-2"); got != "https://sts/" {
		t.Errorf("got %s", got)
	}
}

func TestAPhaseThatFailsForDaysKeepsTheStatusSmall(t *testing.T) {
	r, _, reports := newRunner()
	attempts := 0
	err := r.run(t.Context(), []Phase{{Name: "a", Attempt: time.Minute, Run: func(context.Context, func(string)) error {
		if attempts++; attempts < 1000 {
			return errors.New("not yet")
		}
		return nil
	}}})
	last := (*reports)[len(*reports)-1].Phases[0]
	if err != nil || last.Attempts != 1000 || len(last.Failed) != mostFailed || last.Failed[0] != 3 || *last.Finished-last.Failed[mostFailed-1] != 15 {
		t.Errorf("got %d attempts, %d failures kept, %v", last.Attempts, len(last.Failed), err)
	}
}
