package proxy_test

import (
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http/httpproxy"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/proxy"
)

const squid = "http://proxy.corp.example:3128"

func direct(cidr string) []string {
	return proxy.Direct(netip.MustParsePrefix(cidr), "ip-10-0-16-7.eu-central-1.compute.internal")
}

func TestGoProgramsReachDirectlyWhatMustBe(t *testing.T) {
	for _, cidr := range []string{"10.100.0.0/16", "fd12:3456::/108"} {
		completed := proxy.Complete(nodeconfig.Environment{"default": {"HTTP_PROXY": squid, "HTTPS_PROXY": squid}}, direct(cidr))["default"]
		for _, name := range []string{"NO_PROXY", "no_proxy"} {
			decide := (&httpproxy.Config{HTTPProxy: completed["HTTP_PROXY"], HTTPSProxy: completed["HTTPS_PROXY"], NoProxy: completed[name]}).ProxyFunc()
			for target, byProxy := range map[string]bool{
				"http://169.254.169.254/latest/api/token":                false,
				"http://[fd00:ec2::254]/latest/api/token":                false,
				"http://169.254.170.23/v1/credentials":                   false,
				"http://[fd00:ec2::23]/v1/credentials":                   false,
				"http://localhost:10248/healthz":                         false,
				"http://127.0.0.1:10248/healthz":                         false,
				"http://[::1]:10248/healthz":                             false,
				"https://ip-10-0-0-9.eu-central-1.compute.internal":      false,
				"https://10.100.0.1":                                     strings.Contains(cidr, "::"),
				"https://[fd12:3456::1]":                                 !strings.Contains(cidr, "::"),
				"https://registry.example":                               true,
				"http://169.254.169.253":                                 true,
				"https://0123.gr7.eu-central-1.eks.amazonaws.com/readyz": true,
			} {
				u, err := url.Parse(target)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := decide(u); err != nil || (got != nil) != byProxy {
					t.Errorf("%s, services at %s: %s goes by %v, %v", name, cidr, target, got, err)
				}
			}
		}
	}
}

func TestAddingToNoProxy(t *testing.T) {
	added := []string{"localhost", "a"}
	for name, test := range map[string]struct{ given, want nodeconfig.Environment }{
		"without a proxy nothing changes": {
			nodeconfig.Environment{"default": {"NO_PROXY": "x", "A": "1"}},
			nodeconfig.Environment{"default": {"NO_PROXY": "x", "A": "1"}},
		},
		"what the user has stays first and is not repeated": {
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid, "NO_PROXY": "x, localhost"}},
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid, "NO_PROXY": "x,localhost,a", "no_proxy": "x,localhost,a"}},
		},
		"two lists stay two": {
			nodeconfig.Environment{"default": {"https_proxy": squid, "NO_PROXY": "x", "no_proxy": "y"}},
			nodeconfig.Environment{"default": {"https_proxy": squid, "NO_PROXY": "x,localhost,a", "no_proxy": "y,localhost,a"}},
		},
		"a service with a proxy of its own": {
			nodeconfig.Environment{"default": {"A": "1"}, "systemd_containerd": {"HTTPS_PROXY": squid}},
			nodeconfig.Environment{"default": {"A": "1"}, "systemd_containerd": {"HTTPS_PROXY": squid, "NO_PROXY": "localhost,a", "no_proxy": "localhost,a"}},
		},
		"a service whose own list would hide that of all": {
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid}, "systemd_kubelet": {"NO_PROXY": "k"}},
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid, "NO_PROXY": "localhost,a", "no_proxy": "localhost,a"}, "systemd_kubelet": {"NO_PROXY": "k,localhost,a", "no_proxy": "k,localhost,a"}},
		},
		"a service that says nothing about it": {
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid}, "systemd_kubelet": {"K": "1"}},
			nodeconfig.Environment{"default": {"HTTPS_PROXY": squid, "NO_PROXY": "localhost,a", "no_proxy": "localhost,a"}, "systemd_kubelet": {"K": "1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := proxy.Complete(test.given, added); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
