// Package awsauth reads the ConfigMap kube-system/aws-auth, by which older EKS clusters say
// who an IAM principal is to them, in the format of aws-iam-authenticator. It turns a
// mapping into the access entry that says the same; what that entry is worth is for the
// token webhook to judge, which holds a node of the ConfigMap to the same checks as one
// with an access entry.
package awsauth

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Mappings are what one ConfigMap says.
type Mappings struct {
	principals map[string]registry.AccessEntry // by the principal's ARN in lower case, a role's without its path
	accounts   map[string]bool
}

// mapping is one item of mapRoles or mapUsers.
type mapping struct {
	RoleARN  string   `json:"rolearn"`
	UserARN  string   `json:"userarn"`
	Username string   `json:"username"`
	Groups   []string `json:"groups"`
}

// Parse reads the ConfigMap's data. An error means that nothing of it is to be used: half
// of a ConfigMap could lock out whoever is to mend it.
func Parse(data map[string]string) (Mappings, error) {
	m := Mappings{principals: map[string]registry.AccessEntry{}, accounts: map[string]bool{}}
	var roles, users []mapping
	var accounts []string
	for name, into := range map[string]any{"mapRoles": &roles, "mapUsers": &users, "mapAccounts": &accounts} {
		if err := yaml.Unmarshal([]byte(data[name]), into); err != nil {
			return Mappings{}, fmt.Errorf("%s is not a YAML list of mappings: %w", name, err)
		}
	}
	for i, role := range roles {
		if role.RoleARN == "" {
			return Mappings{}, fmt.Errorf("mapRoles: item %d has no rolearn", i)
		}
		m.add(role.RoleARN, role)
	}
	for i, user := range users {
		if user.UserARN == "" {
			return Mappings{}, fmt.Errorf("mapUsers: item %d has no userarn", i)
		}
		m.add(user.UserARN, user)
	}
	for _, account := range accounts {
		m.accounts[account] = true
	}
	return m, nil
}

func (m Mappings) add(arn string, item mapping) {
	entry := registry.AccessEntry{PrincipalARN: registry.CanonicalPrincipal(arn), Type: registry.TypeStandard, Username: item.Username, Groups: item.Groups}
	if isNode(item) {
		entry.Type = registry.TypeEC2
	}
	m.principals[strings.ToLower(entry.PrincipalARN)] = entry
}

// isNode tells whether a mapping is meant for nodes. One that only looks like it is as
// well, so that it meets the checks of nodes and cannot be a way around them.
func isNode(item mapping) bool {
	return strings.HasPrefix(item.Username, "system:node:") || strings.Contains(item.Username, "{{EC2PrivateDNSName}}") ||
		slices.ContainsFunc(item.Groups, func(group string) bool { return group == nodes.Group || group == nodes.BootstrapGroup })
}

// Entry returns the access entry that says what the ConfigMap says about a principal, given
// by its canonical ARN; registry.ErrNotFound: nothing.
func (m Mappings) Entry(principalARN string) (registry.AccessEntry, error) {
	if entry, ok := m.principals[strings.ToLower(principalARN)]; ok {
		return entry, nil
	}
	// arn:aws:iam::ACCOUNT:...
	if parts := strings.SplitN(principalARN, ":", 6); len(parts) == 6 && m.accounts[parts[4]] {
		return registry.AccessEntry{PrincipalARN: principalARN, Type: registry.TypeStandard, Username: principalARN}, nil
	}
	return registry.AccessEntry{}, fmt.Errorf("mapping of %s in the ConfigMap aws-auth: %w", principalARN, registry.ErrNotFound)
}
