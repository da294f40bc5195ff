package kubelet

import (
	"fmt"
	"slices"
	"time"
)

// minor is what a node of one Kubernetes minor has that another has not.
type minor struct {
	minor int // 37 for 1.37
	// featureGates that are wanted and off by default. No other is named: later kubelets
	// warn of a gate that is locked, and refuse to start when it has been removed.
	featureGates []string
	// shutdown is how long a shutdown waits for pods, shutdownCritical the part of it that
	// is left to critical ones; 0 does not wait.
	shutdown, shutdownCritical time.Duration
}

// minors are in order, each as Amazon's image of that minor is. When a gate is on by
// default stands in pkg/features/kube_features.go of Kubernetes: DynamicResourceAllocation
// since 1.34, MutableCSINodeAllocatableCount since 1.35.
func minors() []minor {
	return []minor{
		{33, []string{"DynamicResourceAllocation"}, 0, 0},
		{34, []string{"MutableCSINodeAllocatableCount"}, 150 * time.Second, 30 * time.Second},
		{35, nil, 150 * time.Second, 30 * time.Second},
		{36, nil, 150 * time.Second, 30 * time.Second},
		{37, nil, 150 * time.Second, 30 * time.Second},
	}
}

// minorOf returns the row of a minor. One that is newer than the table is taken for the
// last; one that is older is none that anybody has tried.
func minorOf(number int) (minor, error) {
	all := minors()
	last := all[len(all)-1]
	if number > last.minor {
		return last, nil
	}
	i := slices.IndexFunc(all, func(m minor) bool { return m.minor == number })
	if i < 0 {
		return minor{}, fmt.Errorf("configure kubelet 1.%d: the oldest that is supported is 1.%d", number, all[0].minor)
	}
	return all[i], nil
}

// forMinor changes config for what differs between Kubernetes minors.
func (c *config) forMinor(m minor) {
	for _, gate := range m.featureGates {
		if c.FeatureGates == nil {
			c.FeatureGates = map[string]bool{}
		}
		c.FeatureGates[gate] = true
	}
	if m.shutdown > 0 {
		c.ShutdownGracePeriod = duration(m.shutdown)
		c.ShutdownGracePeriodCriticalPods = duration(m.shutdownCritical)
	}
}
