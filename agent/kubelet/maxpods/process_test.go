package maxpods

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods/exchange"
)

// TestMain makes of this program an evaluator that does what the question says.
func TestMain(m *testing.M) {
	if os.Args[0] != name {
		os.Exit(m.Run())
	}
	question, _ := io.ReadAll(os.Stdin)
	switch string(question) {
	case "sleep":
		time.Sleep(time.Minute)
	case "panic":
		panic("of its own\nand more")
	case "fail in silence":
		os.Exit(3)
	case "take memory":
		var taken [][]byte
		for range 1024 {
			taken = append(taken, make([]byte, 1<<20))
		}
		fmt.Print(len(taken))
	case "say much":
		for range 1024 {
			fmt.Print(strings.Repeat("x", 1024))
		}
	default:
		directory, _ := os.Getwd()
		fmt.Printf("%q %q in %s", os.Args, os.Environ(), directory)
	}
}

// itself is this program, to be run.
func itself(t *testing.T) *os.File {
	t.Helper()
	executable, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer executable.Close()
	file, err := inMemory(executable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func TestWhatFailsIsToldInOneLine(t *testing.T) {
	for question, test := range map[string]struct {
		timeout time.Duration
		want    string
	}{
		"sleep":           {time.Second, "the evaluator did not answer in 1s"},
		"panic":           {timeout, "the evaluator failed: exit status 2: panic: of its own"},
		"fail in silence": {timeout, "the evaluator failed: exit status 3"},
		"take memory":     {timeout, "the evaluator failed: exit status 2: fatal error: .*out of memory.*"},
	} {
		t.Run(question, func(t *testing.T) {
			start := time.Now()
			answer, err := run(itself(t), []byte(question), test.timeout)
			if err == nil || !regexp.MustCompile("^"+test.want+"$").MatchString(err.Error()) {
				t.Errorf("\n got %q, %v\nwant %s", answer, err, test.want)
			}
			if took := time.Since(start); took > timeout {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	answer, err := run(itself(t), []byte("say much"), timeout)
	if err != nil || len(answer) != exchange.MaxAnswer {
		t.Errorf("got %d bytes, %v", len(answer), err)
	}
}

func TestTheProcessHasNothingOfItsParent(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	answer, err := run(itself(t), []byte("what"), timeout)
	if want := `["ovenbird-evaluator"] [] in /`; err != nil || string(answer) != want {
		t.Errorf("got %s, %v, want %s", answer, err, want)
	}
}

func TestWhatRunsCannotBeChanged(t *testing.T) {
	file := itself(t)
	if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a write: %v", err)
	}
	if err := file.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a truncation: %v", err)
	}
}
