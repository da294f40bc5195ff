package progress

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects what is said.
type lines struct {
	mu   sync.Mutex
	said []string
	at   func(n int) // called after the nth line
}

func (l *lines) Say(line string) {
	l.mu.Lock()
	l.said = append(l.said, line)
	n := len(l.said)
	l.mu.Unlock()
	if l.at != nil {
		l.at(n)
	}
}

func TestLongWorkIsNeverSilent(t *testing.T) {
	finish := make(chan struct{})
	ui := &lines{at: func(n int) {
		if n == 3 {
			close(finish)
		}
	}}
	err := step(ui, "Working", time.Millisecond, func() error { <-finish; return nil })
	if err != nil {
		t.Fatal(err)
	}
	last := ui.said[len(ui.said)-1]
	if ui.said[0] != "Working" || !strings.Contains(ui.said[1], "Working: ") || !strings.HasPrefix(last, "    done in ") {
		t.Errorf("the lines were %q", ui.said)
	}
}

func TestAFailureIsReturnedAndNotCalledDone(t *testing.T) {
	ui, failure := &lines{}, errors.New("failure")
	if err := Step(ui, "Working", func() error { return failure }); !errors.Is(err, failure) {
		t.Errorf("the error is %v", err)
	}
	if len(ui.said) != 1 {
		t.Errorf("the lines were %q", ui.said)
	}
}
