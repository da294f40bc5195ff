package boot_test

import (
	"net/netip"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
)

func TestEveryProgramTrustsTheAuthoritiesOfUserData(t *testing.T) {
	userData, cluster, err := boot.ReadUserData([]byte(newWorld(t).userData("")))
	if err != nil {
		t.Fatal(err)
	}
	for _, authorities := range []string{"", "-----BEGIN CERTIFICATE-----\n"} {
		facts := boot.Facts{
			Instance: imds.Instance{Type: "t3.medium", PrivateIPv4: netip.MustParseAddr("10.0.0.10")},
			Image:    image.Release{Kubernetes: "1.37.2", PauseImage: "pause"},
			CPUs:     2, UserData: userData, Cluster: cluster,
		}
		if authorities != "" {
			facts.UserData.TrustedCAs = []byte(authorities)
		}
		files, err := facts.Files()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files.Environment {
			if file.Path != "/etc/ssl/certs/ovenbird-user-data.pem" {
				continue
			}
			// A file without data must not exist: an authority that is gone is trusted no more.
			if found = true; string(file.Data) != authorities || (file.Data == nil) != (authorities == "") {
				t.Errorf("the authorities are %q, want %q", file.Data, authorities)
			}
		}
		if !found {
			t.Error("nothing says which authorities are trusted")
		}
	}
}
