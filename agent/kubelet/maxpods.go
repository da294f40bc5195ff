package kubelet

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/kubelet/maxpods"
)

// instanceTypes has a line for each, "TYPE INTERFACES ADDRESSES" behind two of comment. It is
// searched as it is: a boot looks up one.
//
//go:embed instancetypes.txt
var instanceTypes string

// fallbackMaxPods is kubelet's own default, for instance types that the table has not.
const fallbackMaxPods = 110

// hostNetworkPods are the pods that need no address of an interface: kube-proxy's and
// the CNI plugin's. EKS counts them so.
const hostNetworkPods = 2

// maxPods returns how many pods the node really takes: by kubelet's own precedence the
// user's flag, the user's configuration, and else the user's expression or what the instance
// type has addresses for.
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
	if in.MaxPodsExpression == "" {
		return maxPodsOf(in.InstanceType), nil
	}
	l, _ := limitsOf(in.InstanceType)
	pods, err := maxpods.Evaluate(in.MaxPodsExpression, maxpods.Variables{
		DefaultENIs: l.interfaces, IPsPerENI: l.addresses, MaxPods: maxPodsOf(in.InstanceType),
	})
	if err != nil {
		return 0, fmt.Errorf("spec.kubelet.maxPodsExpression, on a %s: %w", in.InstanceType, err)
	}
	return pods, nil
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
	n, err := strconv.ParseInt(value, 10, 32) // as kubelet does
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s: %q is not a number of pods", field, value)
	}
	return int(n), nil
}

// limits are how many network interfaces an instance has on its default card, and how many
// IPv4 addresses each of them.
type limits struct{ interfaces, addresses int }

func limitsOf(instanceType string) (limits, bool) {
	_, rest, found := strings.Cut(instanceTypes, "\n"+instanceType+" ")
	line, _, _ := strings.Cut(rest, "\n")
	interfaces, addresses, _ := strings.Cut(line, " ")
	var l limits
	var err1, err2 error
	l.interfaces, err1 = strconv.Atoi(interfaces)
	l.addresses, err2 = strconv.Atoi(addresses)
	return l, found && err1 == nil && err2 == nil
}

// pods returns how many pods have an address of their own from the VPC: each interface's
// first address is the interface's.
func (l limits) pods() int { return l.interfaces*(l.addresses-1) + hostNetworkPods }

func maxPodsOf(instanceType string) int {
	if l, known := limitsOf(instanceType); known {
		return l.pods()
	}
	return fallbackMaxPods
}
