package systemd_test

import (
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/systemd"
)

func TestTheResolverGetsWhatTheNodeConfigSays(t *testing.T) {
	for name, test := range map[string]struct {
		network nodeconfig.Network
		want    string
	}{
		"nothing is no file":           {nodeconfig.Network{}, ""},
		"servers are asked for all":    {nodeconfig.Network{Nameservers: []string{"10.0.0.2", "fd00::2"}}, "[Resolve]\nDNS=10.0.0.2 fd00::2\nDomains=~.\n"},
		"domains leave the lease's":    {nodeconfig.Network{Domains: []string{"a.example", "b.example"}}, "[Resolve]\nDomains=a.example b.example\n"},
		"domains come before the rest": {nodeconfig.Network{Nameservers: []string{"10.0.0.2"}, Domains: []string{"a.example"}}, "[Resolve]\nDNS=10.0.0.2\nDomains=a.example ~.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := systemd.ResolverFile(test.network)
			if string(file.Data) != test.want || (file.Data == nil) != (test.want == "") {
				t.Errorf("got %q", file.Data)
			}
		})
	}
}
