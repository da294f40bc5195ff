package kubelet

import "time"

// forMinor changes config for what differs between Kubernetes minors, 37 meaning 1.37.
// A feature gate is named only as long as kubelet knows it: it refuses to start with one
// that has been removed.
func (c *config) forMinor(minor int) {
	for _, gate := range []struct {
		name        string
		since, last int
	}{
		{"DynamicResourceAllocation", 33, 37},
		{"MutableCSINodeAllocatableCount", 34, 37},
	} {
		if gate.since <= minor && minor <= gate.last {
			if c.FeatureGates == nil {
				c.FeatureGates = map[string]bool{}
			}
			c.FeatureGates[gate.name] = true
		}
	}
	if minor >= 34 {
		c.ShutdownGracePeriod = duration(2*time.Minute + 30*time.Second)
		c.ShutdownGracePeriodCriticalPods = duration(30 * time.Second)
	}
}
