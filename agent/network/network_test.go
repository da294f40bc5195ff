package network_test

import (
	"errors"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver"
	"github.com/ovenbird-dev/ovenbird/agent/network"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
)

func TestFilesAreTheGoldenOnes(t *testing.T) {
	for name, spec := range map[string]apiserver.NodeSpec{
		"ipv4":      {PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}},
		"dualstack": {PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"}},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := network.FilesFor(&apiserver.Node{Spec: spec})
			if err != nil {
				t.Fatal(err)
			}
			rootfstest.Golden(t, name, files)
		})
	}
}

func TestANodeWithoutAddressesIsNotReadyForThem(t *testing.T) {
	if _, err := network.FilesFor(&apiserver.Node{}); !errors.Is(err, network.ErrNoAddresses) {
		t.Errorf("got %v", err)
	}
}

func TestABrokenPodCIDRIsRefused(t *testing.T) {
	_, err := network.FilesFor(&apiserver.Node{Spec: apiserver.NodeSpec{PodCIDR: "10.244.1.0"}})
	if err == nil || errors.Is(err, network.ErrNoAddresses) {
		t.Errorf("got %v", err)
	}
}
