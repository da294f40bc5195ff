package audit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func record(t *testing.T, path string) (*File, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	f, err := Open(path, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, logs
}

func lines(t *testing.T, path string) []Event {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var events []Event
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		var e Event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", scanner.Text(), err)
		}
		events = append(events, e)
	}
	return events
}

func TestEveryEventIsOneLineAndOneLogEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, logs := record(t, path)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			f.Record(Event{Time: at, RequestID: fmt.Sprint(i), Principal: "a\nb", Outcome: "403", Reason: "AccessDeniedException", Duration: time.Second})
		})
	}
	group.Wait()
	events := lines(t, path)
	if len(events) != 100 || logs.Len() != 100 {
		t.Fatalf("%d lines and %d log entries for 100 events", len(events), logs.Len())
	}
	if e := events[0]; !e.Time.Equal(at) || e.Principal != "a\nb" || e.Outcome != "403" || e.Reason != "AccessDeniedException" || e.Duration != time.Second {
		t.Errorf("read back %+v", e)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestARecordIsContinuedAndClosedToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"outcome":"earlier"}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, _ := record(t, path)
	f.Record(Event{Outcome: "200"})
	if events := lines(t, path); len(events) != 2 || events[0].Outcome != "earlier" {
		t.Errorf("got %+v", events)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestAFullFileIsPutAsideAndTheOldestIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, _ := record(t, path)
	f.size = 100 // each event is a file of its own
	for i := range kept + 3 {
		f.Record(Event{Time: at, RequestID: fmt.Sprintf("%060d", i), Outcome: "200"})
	}
	for i, name := 0, path; i <= kept; i++ {
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		want := fmt.Sprintf("%060d", kept+2-i)
		if events := lines(t, name); len(events) != 1 || events[0].RequestID != want {
			t.Errorf("%s holds %+v, want event %s", name, events, want)
		}
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != kept+1 {
		t.Errorf("files %v, want %d", files, kept+1)
	}
}

func TestAFileThatCannotBePutAsideGrowsOnAndNoneIsLost(t *testing.T) {
	for name, obstacle := range map[string]string{"no new file": ".new", "no room for the oldest": fmt.Sprintf(".%d", kept)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			f, logs := record(t, path)
			f.size = 100 // each event fills a file
			event := func(i int) Event { return Event{Time: at, RequestID: fmt.Sprintf("%060d", i), Outcome: "200"} }
			for i := range kept {
				f.Record(event(i))
			}
			if err := os.Mkdir(path+obstacle, 0o700); err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				f.Record(event(kept + i))
			}
			if events := lines(t, path); len(events) != 11 || logs.FilterLevelExact(zap.ErrorLevel).Len() != 1 {
				t.Errorf("%d events in the file, %d errors in the log", len(events), logs.FilterLevelExact(zap.ErrorLevel).Len())
			}
			if err := os.Remove(path + obstacle); err != nil {
				t.Fatal(err)
			}
			f.retry = time.Time{}
			f.Record(event(100))
			for i, want := range []int{100, kept - 1, kept - 2} {
				file := path
				if i > 0 {
					file = f.aside(i)
				}
				if events := lines(t, file); len(events) == 0 || events[0].RequestID != event(want).RequestID {
					t.Errorf("%s holds %+v, want event %d first", file, events, want)
				}
			}
			if events := lines(t, f.aside(kept)); len(events) != 1 || events[0].RequestID != event(0).RequestID {
				t.Errorf("the oldest is %+v", events)
			}
		})
	}
}

func TestAnEventThatCannotBeWrittenIsAnErrorInTheLog(t *testing.T) {
	f, logs := record(t, filepath.Join(t.TempDir(), "audit.jsonl"))
	_ = f.current.Close()
	f.Record(Event{RequestID: "7", Outcome: "200"})
	if errors := logs.FilterLevelExact(zap.ErrorLevel); errors.Len() != 1 || logs.Len() != 2 {
		t.Errorf("got %+v", logs.All())
	}
}
