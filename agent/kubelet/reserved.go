package kubelet

import "fmt"

// reserved returns what Amazon's node agent keeps from pods for kubelet, containerd and
// the like.
func reserved(cpus, maxPods int) map[string]string {
	return map[string]string{
		"cpu":               fmt.Sprintf("%dm", reservedCPU(cpus)),
		"memory":            fmt.Sprintf("%dMi", 11*maxPods+255),
		"ephemeral-storage": "1Gi",
	}
}

// reservedCPU returns millicores: 6% of the first core, 1% of the second, 0.5% of the
// next two and 0.25% of the rest, each band truncated.
func reservedCPU(cpus int) int {
	total := 0
	for _, band := range []struct{ cores, tenThousandths int }{{1, 600}, {1, 100}, {2, 50}, {cpus, 25}} {
		cores := min(band.cores, cpus)
		total += cores * 1000 * band.tenThousandths / 10000
		cpus -= cores
	}
	return total
}
