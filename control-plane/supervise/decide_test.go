package supervise

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestARecordIsBelievedOnlyWhenEverythingMatches(t *testing.T) {
	r := record{PID: 7, Boot: "b", Started: 100, Args: []string{"etcd", "--x"}, Digest: "d"}
	tests := map[string]struct {
		boot, digest string
		now          *info
		want         verdict
	}{
		"the same process, as wanted":        {"b", "d", &info{started: 100, args: r.Args}, adopt},
		"the same process, no longer so":     {"b", "e", &info{started: 100, args: r.Args}, differ},
		"no process":                         {"b", "d", nil, over},
		"another boot":                       {"c", "d", &info{started: 100, args: r.Args}, over},
		"a later process with that number":   {"b", "d", &info{started: 101, args: r.Args}, over},
		"other arguments":                    {"b", "d", &info{started: 100, args: []string{"etcd"}}, over},
		"dead, but its parent does not care": {"b", "d", &info{started: 100, args: r.Args, zombie: true}, over},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := r.judge(test.boot, test.now, test.digest); got != test.want {
				t.Errorf("judge = %v, want %v", got, test.want)
			}
		})
	}
}

func TestTheWaitDoublesUpToACapAndIsForgottenAfterAWhile(t *testing.T) {
	delays := Delays{First: 100 * time.Millisecond, Most: time.Second, Well: time.Minute}
	for failures, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if got := delays.limit(failures); got != want*time.Millisecond {
			t.Errorf("limit after %d failures is %v", failures, got)
		}
	}
	if got := delays.limit(1000); got != time.Second {
		t.Errorf("limit after a thousand failures is %v", got)
	}

	r := restarts{Delays: delays}
	now := time.Unix(1000, 0)
	for range 5 {
		if wait := r.next(time.Time{}, now); wait < 0 || wait > time.Second {
			t.Errorf("wait %v", wait)
		}
	}
	r.next(now.Add(-time.Second), now)
	if r.failures != 6 {
		t.Errorf("a second of being well was enough to forget: %d failures", r.failures)
	}
	if wait := r.next(now.Add(-time.Minute), now); wait > 100*time.Millisecond || r.failures != 1 {
		t.Errorf("after a minute of being well: wait %v, %d failures", wait, r.failures)
	}
}

func TestStatIsReadWhateverTheProgramIsCalled(t *testing.T) {
	rest := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for stat, want := range map[string]info{
		"12 (etcd) S" + rest:         {started: 4242},
		"12 (a) Z (b c) R" + rest:    {started: 4242},
		"12 (kube-apiserv) Z" + rest: {started: 4242, zombie: true},
	} {
		got, err := parseStat(stat)
		if err != nil || got.started != want.started || got.zombie != want.zombie {
			t.Errorf("%q: %+v, %v", stat, got, err)
		}
	}
	for _, stat := range []string{"", "12 (etcd) S 1 2", "12 etcd"} {
		if _, err := parseStat(stat); err == nil {
			t.Errorf("%q was accepted", stat)
		}
	}
}

func TestTheLastLineOfALogIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for content, want := range map[string]string{
		"": "", "\n\n": "", "one": ": one", "one\ntwo\n": ": two", "one\ntwo\n\n": ": two",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(path); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
	if got := lastLine(path + "x"); got != "" {
		t.Errorf("no log: %q", got)
	}
}
