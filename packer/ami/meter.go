package ami

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/progress"
)

// meterInterval is how often a meter says how far it is.
const meterInterval = 5 * time.Second

// meter tells people how far a piece of work that is counted in bytes has come.
type meter struct {
	ui    progress.Sayer
	what  string
	total int64
	done  atomic.Int64
	began time.Time
}

func newMeter(ui progress.Sayer, what string, total int64) *meter {
	return &meter{ui: ui, what: what, total: total, began: time.Now()}
}

// during runs work and says how it goes.
func (m *meter) during(interval time.Duration, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.ui.Say("    " + m.line(time.Since(m.began)))
		case err := <-done:
			if err == nil {
				took := time.Since(m.began)
				m.ui.Say(fmt.Sprintf("    %s: %s in %s, %s/s", m.what, size(m.done.Load()), took.Round(100*time.Millisecond), size(rate(m.done.Load(), took))))
			}
			return err
		}
	}
}

// line says how far, how fast and how long still.
func (m *meter) line(after time.Duration) string {
	done := m.done.Load()
	speed := rate(done, after)
	left := "time left unknown"
	if speed > 0 {
		left = (time.Duration(max(0, m.total-done)/speed) * time.Second).String() + " left"
	}
	return fmt.Sprintf("%s: %s of %s, %s/s, %s", m.what, size(done), size(m.total), size(speed), left)
}

func rate(bytes int64, in time.Duration) int64 {
	if in <= 0 {
		return 0
	}
	return int64(float64(bytes) / in.Seconds())
}

func size(bytes int64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
