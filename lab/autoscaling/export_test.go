package autoscaling

// Wake has Run look at the time again.
func (g *Groups) Wake() { g.wake() }
