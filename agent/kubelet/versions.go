package kubelet

import "time"

// forMinor changes config for what differs between Kubernetes minors, 37 meaning 1.37.
// A feature gate is named only where it is off by default: later kubelets warn of it, and
// refuse to start when it has been removed.
func (c *config) forMinor(minor int) {
	for _, gate := range []struct {
		name        string
		since, last int
	}{
		{"DynamicResourceAllocation", 33, 33},
		{"MutableCSINodeAllocatableCount", 34, 34},
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
