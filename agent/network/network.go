// Package network is the node's side of the pod network, and the one place that knows
// which network it is. For now that is a bridge for the range of addresses that
// kube-controller-manager gives the Node: pods reach each other on one node, the node's
// own addresses stand for them outside. VPC-native networking replaces FilesFor.
package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

const configPath = "/etc/cni/net.d/10-ovenbird.conflist"

// ErrNoAddresses means that the Node has not been given its range of pod addresses yet.
var ErrNoAddresses = errors.New("the node has no pod CIDR yet: kube-controller-manager allocates it")

// FilesFor returns the CNI configuration of node.
func FilesFor(node *apiserver.Node) ([]rootfs.File, error) {
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 && node.Spec.PodCIDR != "" {
		cidrs = []string{node.Spec.PodCIDR}
	}
	if len(cidrs) == 0 {
		return nil, ErrNoAddresses
	}
	prefixes := make([]netip.Prefix, len(cidrs))
	for i, cidr := range cidrs {
		var err error
		if prefixes[i], err = netip.ParsePrefix(cidr); err != nil {
			return nil, fmt.Errorf("read the node's pod CIDR: %w", err)
		}
	}
	data, err := json.MarshalIndent(bridge(prefixes), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", configPath, err)
	}
	return []rootfs.File{{Path: configPath, Data: append(data, '\n')}}, nil
}

type object = map[string]any

// bridge is a CNI configuration for containernetworking's own plugins. Masquerading and
// port mappings are nftables', like kube-proxy's rules: the image has no iptables.
func bridge(prefixes []netip.Prefix) object {
	var ranges [][]object
	var routes []object
	for _, prefix := range prefixes {
		ranges = append(ranges, []object{{"subnet": prefix.String()}})
		anywhere := "0.0.0.0/0"
		if prefix.Addr().Is6() {
			anywhere = "::/0"
		}
		routes = append(routes, object{"dst": anywhere})
	}
	return object{
		"cniVersion": "1.0.0",
		"name":       "ovenbird",
		"plugins": []object{
			{
				"type":          "bridge",
				"bridge":        "cni0",
				"isGateway":     true,
				"ipMasq":        true,
				"ipMasqBackend": "nftables",
				"hairpinMode":   true,
				"ipam":          object{"type": "host-local", "ranges": ranges, "routes": routes},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"capabilities": object{"portMappings": true},
			},
		},
	}
}
