package kubelet

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

//go:embed instance_types.txt
var instanceTypes string

// fallbackMaxPods is kubelet's own default, for instance types that the table has not.
const fallbackMaxPods = 110

// hostNetworkPods are the pods that need no address of an interface: kube-proxy's and
// the CNI plugin's. EKS counts them so.
const hostNetworkPods = 2

// maxPods returns how many pods the node really takes: by kubelet's own precedence the
// user's flag, the user's configuration, and else what the instance type has addresses for.
func maxPods(in Input) (int, error) {
	if value, ok := lastFlag(in.UserFlags, "--max-pods"); ok {
		return positive("spec.kubelet.flags: --max-pods", value)
	}
	if value, ok := in.UserConfig["maxPods"]; ok {
		data, err := json.Marshal(value)
		if err != nil {
			return 0, fmt.Errorf("spec.kubelet.config.maxPods: %w", err)
		}
		return positive("spec.kubelet.config.maxPods", string(data))
	}
	return maxPodsOf(in.InstanceType), nil
}

// lastFlag returns the value that kubelet takes for a flag. One entry of flags may hold
// several, as systemd splits them.
func lastFlag(flags []string, name string) (value string, found bool) {
	words := strings.Fields(strings.Join(flags, " "))
	for i, word := range words {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			value, found = v, true
		} else if word == name && i+1 < len(words) {
			value, found = words[i+1], true
		}
	}
	return value, found
}

func positive(field, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s: %q is not a number of pods", field, value)
	}
	return n, nil
}

// maxPodsOf returns how many pods an instance type has addresses for when every pod has
// an address of its own from the VPC: each interface's first address is the interface's.
func maxPodsOf(instanceType string) int {
	for line := range strings.Lines(instanceTypes) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != instanceType {
			continue
		}
		interfaces, err1 := strconv.Atoi(fields[1])
		addresses, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil {
			return interfaces*(addresses-1) + hostNetworkPods
		}
	}
	return fallbackMaxPods
}
