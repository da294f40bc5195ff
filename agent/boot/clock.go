package boot

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is time as joining a node needs it. Tests bring their own.
type Clock interface {
	Now() time.Time
	SinceBoot() time.Duration // since the kernel started; never steps
	Sleep(ctx context.Context, d time.Duration) error
}

// SystemClock is the machine's own.
type SystemClock struct{}

// Now returns the time of day.
func (SystemClock) Now() time.Time { return time.Now() }

// SinceBoot returns CLOCK_BOOTTIME, which counts suspended time too.
func (SystemClock) SinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // every Linux that runs Go has it
	}
	return time.Duration(now.Nano())
}

// Sleep returns after d, or with an error when ctx ends sooner.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
