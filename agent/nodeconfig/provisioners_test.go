package nodeconfig_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// TestUserDataOfProvisionersIsRead reads user-data in the form in which these write it:
// Karpenter for its family AL2023 (in base64, as RunInstances gets it), eksctl for AmazonLinux2023
// (CRLF, a header twice, empty mappings), and a launch template by docs/provisioners.md.
func TestUserDataOfProvisionersIsRead(t *testing.T) {
	list := func(items ...any) []any { return items }
	for name, want := range map[string]struct {
		config  map[string]any
		flags   []string
		scripts []string
	}{
		"karpenter": {
			config: map[string]any{
				"clusterDNS": list("10.100.0.10"), "maxPods": int64(42),
				"registerWithTaints": list(map[string]any{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}),
			},
			// systemd takes the quotes away when it makes kubelet's arguments of it.
			flags:   []string{`--node-labels="karpenter.k8s.aws/ec2nodeclass=ovenbird,karpenter.sh/capacity-type=on-demand,karpenter.sh/nodepool=default"`},
			scripts: []string{"#!/bin/bash\necho hello"},
		},
		"eksctl": {
			config: map[string]any{"clusterDNS": list("10.100.0.10"), "shutdownGracePeriod": "5m"},
			flags: []string{
				"--node-labels=alpha.eksctl.io/cluster-name=demo,alpha.eksctl.io/nodegroup-name=workers",
				"--register-with-taints=special=true:NoSchedule",
			},
			scripts: []string{"#!/bin/bash\necho hello"},
		},
		"managed-node-group": {flags: []string{"--node-labels=team=blue"}},
	} {
		t.Run(name, func(t *testing.T) {
			userData, err := os.ReadFile(filepath.Join("testdata", "provisioners", name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := nodeconfig.Parse(userData)
			if err != nil {
				t.Fatal(err)
			}
			c := got.Spec.Cluster
			if _, err := c.CA(); err != nil || c.Name != "demo" || c.CIDR != "10.100.0.0/16" || c.APIServerEndpoint != "https://0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com" {
				t.Errorf("cluster is %+v, %v", c, err)
			}
			if k := got.Spec.Kubelet; !reflect.DeepEqual(k.Config, want.config) || !reflect.DeepEqual(k.Flags, want.flags) {
				t.Errorf("got %v and %q, want %v and %q", k.Config, k.Flags, want.config, want.flags)
			}
			var scripts []string
			for _, script := range got.Scripts {
				scripts = append(scripts, string(script.Body))
			}
			if !reflect.DeepEqual(scripts, want.scripts) || len(got.Warnings) > 0 {
				t.Errorf("scripts are %q, want %q; warnings %q", scripts, want.scripts, got.Warnings)
			}
		})
	}
}
