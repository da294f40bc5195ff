// Package access gives access policies their effect inside a cluster. The token webhook
// puts a caller into one group for each of its associations; RBAC in the cluster binds
// those groups to what AWS documents of the policies. Bindings for the whole cluster are
// among the add-on manifests; Bindings keeps those of namespaces.
//
// A group stands for a policy and, where it is for namespaces, for the pattern that the
// association has, so that a review needs no look at the cluster. All names begin with
// ovenbird:, which no access entry and no ConfigMap can give to anybody.
package access

import (
	"maps"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const prefix = "ovenbird:policy:"

// Role names the ClusterRole with what a policy allows. The group of those who have the
// policy in the whole cluster has the same name.
func Role(policyARN string) string { return prefix + name(policyARN) }

// Groups are what whoever has the associations is in, sorted.
func Groups(policies []registry.AssociatedPolicy) []string {
	var groups []string
	for _, policy := range policies {
		if policy.Namespaces == nil {
			groups = append(groups, Role(policy.ARN))
		}
		for _, pattern := range policy.Namespaces {
			groups = append(groups, group(policy.ARN, pattern))
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

func group(policyARN, pattern string) string { return Role(policyARN) + ":" + pattern }

func name(policyARN string) string { return policyARN[strings.LastIndexByte(policyARN, '/')+1:] }

// binding is a RoleBinding: its namespace, and its name, which is that of the role too.
type binding struct{ namespace, role string }

// wanted says which groups are to be bound to which role in which of the namespaces.
func wanted(entries []registry.AccessEntry, namespaces []string) map[binding][]string {
	sets := map[binding]map[string]bool{}
	for _, entry := range entries {
		for _, policy := range entry.Policies {
			for _, pattern := range policy.Namespaces {
				for _, namespace := range namespaces {
					if !matches(pattern, namespace) {
						continue
					}
					b := binding{namespace, Role(policy.ARN)}
					if sets[b] == nil {
						sets[b] = map[string]bool{}
					}
					sets[b][group(policy.ARN, pattern)] = true
				}
			}
		}
	}
	bindings := make(map[binding][]string, len(sets))
	for b, set := range sets {
		bindings[b] = slices.Sorted(maps.Keys(set))
	}
	return bindings
}

// matches tells whether the pattern, a name that may begin or end with *, is for the
// namespace.
func matches(pattern, namespace string) bool {
	suffix, anyStart := strings.CutPrefix(pattern, "*")
	core, anyEnd := strings.CutSuffix(suffix, "*")
	switch {
	case anyStart && anyEnd:
		return strings.Contains(namespace, core)
	case anyStart:
		return strings.HasSuffix(namespace, suffix)
	case anyEnd:
		return strings.HasPrefix(namespace, core)
	}
	return pattern == namespace
}
