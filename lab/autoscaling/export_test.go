package autoscaling

import (
	"context"
	"time"
)

// Wake has Run look at the time again.
func (g *Groups) Wake() { g.wake() }

// Step does what is due, as Run does, and answers when the next thing is.
func (g *Groups) Step(ctx context.Context) (next time.Time, err error) { return g.step(ctx) }
