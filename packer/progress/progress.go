// Package progress tells people who wait for a build what it is doing: a line when a
// piece of work starts, one every ten seconds while it lasts, and one when it is done.
package progress

import (
	"fmt"
	"time"
)

// Interval is how long work stays silent.
const Interval = 10 * time.Second

// Sayer takes lines for people; packer.Ui is one.
type Sayer interface{ Say(string) }

// Step runs work and reports it as what. The error is work's own.
func Step(ui Sayer, what string, work func() error) error {
	return step(ui, what, Interval, work)
}

func step(ui Sayer, what string, interval time.Duration, work func() error) error {
	start := time.Now()
	ui.Say(what)
	done := make(chan error, 1)
	go func() { done <- work() }()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ui.Say(fmt.Sprintf("    %s: %s so far", what, elapsed(start)))
		case err := <-done:
			if err == nil {
				ui.Say(fmt.Sprintf("    done in %s", elapsed(start)))
			}
			return err
		}
	}
}

func elapsed(start time.Time) time.Duration {
	d := time.Since(start)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
