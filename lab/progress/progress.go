// Package progress shows a command's steps while they run: a live line on a terminal, a
// plain line at each end otherwise, with the time that it took.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Steps writes to one place.
type Steps struct {
	out  io.Writer
	live bool
}

// New shows steps on file.
func New(file *os.File) Steps {
	return Steps{out: file, live: term.IsTerminal(int(file.Fd()))}
}

// Do runs one step.
func (s Steps) Do(what string, step func() error) error {
	if s.out == nil {
		return step()
	}
	began := time.Now()
	elapsed := func() string { return time.Since(began).Round(100 * time.Millisecond).String() }
	stop := s.tick(what, elapsed)
	err := step()
	stop()
	outcome := "done in"
	if err != nil {
		outcome = "failed after"
	}
	fmt.Fprintf(s.out, "  %s  %s %s\n", what, outcome, elapsed())
	return err
}

// tick keeps telling that the step is still at work, until it is stopped.
func (s Steps) tick(what string, elapsed func() string) (stop func()) {
	every := 10 * time.Second
	if s.live {
		every = 200 * time.Millisecond
	}
	done := make(chan struct{})
	var ticker sync.WaitGroup
	ticker.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				if s.live {
					fmt.Fprint(s.out, "\r\033[K")
				}
				return
			case <-t.C:
				if s.live {
					fmt.Fprintf(s.out, "\r\033[K  %s  %s", what, elapsed())
				} else {
					fmt.Fprintf(s.out, "  %s  %s\n", what, elapsed())
				}
			}
		}
	})
	return func() { close(done); ticker.Wait() }
}
