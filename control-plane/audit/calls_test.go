package audit

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// calls is a record of calls in a new directory, with its two files and its log.
func calls(t *testing.T) (c *Calls, known, refused string, logs *observer.ObservedLogs) {
	t.Helper()
	known, refused = filepath.Join(t.TempDir(), "known"), filepath.Join(t.TempDir(), "refused")
	file, logs := record(t, known)
	c, err := OpenCalls(file, refused, file.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, known, refused, logs
}

func TestStrangersDoNotPushOutWhatKnownCallersDid(t *testing.T) {
	c, known, refused, _ := calls(t)
	c.known.size, c.refused.size = 1000, 1000
	c.Record(Event{Principal: "jane", Outcome: "200"})
	for range 100 {
		c.Record(Event{Source: "192.0.2.1", Outcome: "403", Reason: "InvalidSignatureException"})
	}
	if events := lines(t, known); len(events) != 1 || events[0].Principal != "jane" {
		t.Errorf("known callers: %+v", events)
	}
	if events := lines(t, refused); len(events) == 0 || events[0].Outcome != "403" {
		t.Errorf("strangers: %+v", events)
	}
}

func TestThrottledCallsAreOneEventASourceAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, known, refused, logs := calls(t)
		for range 500 {
			c.Record(Event{Time: at, RequestID: "1", Source: "192.0.2.1", Outcome: "429", Reason: "ThrottlingException", Duration: 1})
		}
		c.Record(Event{Time: at, Source: "192.0.2.2", Outcome: "429"})
		if logs.Len() != 0 || len(lines(t, refused)) != 0 {
			t.Errorf("at once: %+v", logs.All())
		}
		time.Sleep(tallyFor)
		synctest.Wait()
		counts := map[string]Event{}
		for _, e := range lines(t, refused) {
			counts[e.Source] = e
		}
		want := Event{Time: at, Source: "192.0.2.1", Outcome: "429", Reason: "ThrottlingException", Count: 500}
		if len(counts) != 2 || counts["192.0.2.1"] != want || counts["192.0.2.2"].Count != 1 || logs.Len() != 2 || len(lines(t, known)) != 0 {
			t.Errorf("after a minute: %+v", counts)
		}
		c.Record(Event{Time: at, Source: "192.0.2.1", Outcome: "429"})
		if err := c.Close(); err != nil || len(lines(t, refused)) != 3 {
			t.Errorf("at the end: %v, %+v", err, lines(t, refused))
		}
	})
}

func TestTheSourcesOfThrottledCallsAreBounded(t *testing.T) {
	c, _, refused, _ := calls(t)
	for i := range maxSources + 10 {
		c.Record(Event{Source: fmt.Sprint(i), Outcome: "429"})
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	events := lines(t, refused)
	if len(events) != maxSources+1 {
		t.Errorf("%d events", len(events))
	}
	for _, e := range events {
		if e.Source == otherSources && e.Count != 10 {
			t.Errorf("got %+v, want a count of 10", e)
		}
	}
}

func TestARecordOfRefusalsThatCannotBeOpenedIsAnError(t *testing.T) {
	if _, err := OpenCalls(nil, filepath.Join(t.TempDir(), "no", "file"), zap.NewNop()); err == nil {
		t.Error("it was opened")
	}
}
