package retry

import (
	"context"
	"testing"
	"time"
)

func TestWaitsGrowToTheLimitAndStartOverAfterReset(t *testing.T) {
	b := Backoff{First: 100 * time.Millisecond, Limit: time.Second}
	for i, full := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		full *= time.Millisecond
		if got := b.Next(); got > full || got < full*3/4 {
			t.Errorf("wait %d is %s, want about %s", i, got, full)
		}
	}
	b.Reset()
	if got := b.Next(); got > 100*time.Millisecond {
		t.Errorf("after reset: %s", got)
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Wait(ctx, time.Hour); err == nil {
		t.Error("no error")
	}
}
