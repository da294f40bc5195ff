// Package proxy keeps what must be reached directly away from the proxy that a NodeConfig
// names: the instance's own metadata, itself, the cluster's services and the VPC's names. It
// only adds to NO_PROXY; what a user has there stays.
package proxy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// Direct returns what a node never reaches by a proxy, as NO_PROXY has it: IPv6 addresses
// without brackets. An invalid serviceCIDR and a privateDNSName without a domain add nothing.
func Direct(serviceCIDR netip.Prefix, privateDNSName string) []string {
	direct := []string{
		"localhost", "127.0.0.1", "::1",
		"169.254.169.254", "fd00:ec2::254", // instance metadata
		"169.254.170.23", "fd00:ec2::23", // EKS Pod Identity's agent
	}
	if serviceCIDR.IsValid() {
		direct = append(direct, serviceCIDR.String())
	}
	if _, domain, ok := strings.Cut(privateDNSName, "."); ok {
		direct = append(direct, "."+domain)
	}
	return direct
}

// Complete returns environment with direct in NO_PROXY and no_proxy, as programs read the one
// or the other, of whomever it gives a proxy. Without a proxy it returns environment itself.
func Complete(environment nodeconfig.Environment, direct []string) nodeconfig.Environment {
	all := environment[nodeconfig.EnvironmentDefault]
	completed := nodeconfig.Environment{}
	for who, variables := range environment {
		// A service has the variables of all with its own over them.
		effective := maps.Clone(all)
		if effective == nil {
			effective = map[string]string{}
		}
		maps.Copy(effective, variables)
		if slices.ContainsFunc(proxyVariables(), func(name string) bool { return effective[name] != "" }) &&
			slices.ContainsFunc(append(proxyVariables(), noProxyUpper, noProxyLower), func(name string) bool { _, has := variables[name]; return has }) {
			variables = withNoProxy(variables, effective, direct)
		}
		completed[who] = variables
	}
	return completed
}

const noProxyUpper, noProxyLower = "NO_PROXY", "no_proxy"

func proxyVariables() []string {
	return []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}
}

func withNoProxy(variables, effective map[string]string, direct []string) map[string]string {
	variables = maps.Clone(variables)
	for _, names := range [][2]string{{noProxyUpper, noProxyLower}, {noProxyLower, noProxyUpper}} {
		list := effective[names[0]]
		if list == "" {
			list = effective[names[1]]
		}
		variables[names[0]] = add(list, direct)
	}
	return variables
}

// add appends to a comma-separated list what it has not got.
func add(list string, direct []string) string {
	var entries []string
	for _, entry := range strings.Split(list, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	for _, entry := range direct {
		if !slices.Contains(entries, entry) {
			entries = append(entries, entry)
		}
	}
	return strings.Join(entries, ",")
}
