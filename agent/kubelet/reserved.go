package kubelet

import "fmt"

// What a node keeps from its pods, in MiB. All of it together must fit into the smallest
// machine, or kubelet refuses to start; EC2's is a t3.nano with 512.
const (
	// Kubelet evicts a pod when less is available; kubelet's own default and Amazon's.
	evictionMemory = 100
	// The kernel, systemd, journald, networkd, resolved, udevd and the agent.
	systemMemory = 100
	systemCPU    = 100 // millicores
)

// kubeReserved returns what is kept for kubelet and containerd: by Amazon's formula, but not
// more memory than a node of this size can spare.
func kubeReserved(cpus, memoryMiB, maxPods int) map[string]string {
	memory := 11*maxPods + 255
	if memoryMiB > 0 {
		memory = min(memory, mostReserved(memoryMiB))
	}
	return map[string]string{
		"cpu":               fmt.Sprintf("%dm", reservedCPU(cpus)),
		"memory":            mebibytes(memory),
		"ephemeral-storage": "1Gi",
	}
}

func systemReserved() map[string]string {
	return map[string]string{"cpu": fmt.Sprintf("%dm", systemCPU), "memory": mebibytes(systemMemory)}
}

// mostReserved caps the formula, which was made for nodes whose pods each have an address of
// an interface. With prefix delegation 110 pods fit on any node, and a t3.small would keep
// three quarters of its memory from them. The bands are those of GKE and AKS: 25% of the
// first 4 GiB, 20% of the next 4, 10% of the next 8, 6% of the next 112, 2% of the rest.
// With its own number of pods they bind on a type below 2 GiB, and on the later ones that
// have addresses for more pods than memory, such as c8i.4xlarge: 394 pods and 32 GiB.
func mostReserved(memoryMiB int) int {
	const gibibyte = 1024
	total := 0
	for _, band := range []struct{ mebibytes, percent int }{
		{4 * gibibyte, 25}, {4 * gibibyte, 20}, {8 * gibibyte, 10}, {112 * gibibyte, 6}, {memoryMiB, 2},
	} {
		size := min(band.mebibytes, memoryMiB)
		total += size * band.percent / 100
		memoryMiB -= size
	}
	return total
}

func mebibytes(n int) string { return fmt.Sprintf("%dMi", n) }

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
