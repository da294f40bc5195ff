package registry

import (
	"slices"
	"time"
)

// The access policies on offer, by their ARNs in the partition aws.
const (
	policyPrefix = "arn:aws:eks::aws:cluster-access-policy/"

	ClusterAdminPolicy = policyPrefix + "AmazonEKSClusterAdminPolicy"
	AdminPolicy        = policyPrefix + "AmazonEKSAdminPolicy"
	EditPolicy         = policyPrefix + "AmazonEKSEditPolicy"
	ViewPolicy         = policyPrefix + "AmazonEKSViewPolicy"
)

// AssociatedPolicy gives a principal what an access policy allows.
type AssociatedPolicy struct {
	ARN string
	// Namespaces that it holds in; a name may begin or end with *. Nil: the whole cluster.
	Namespaces   []string `json:",omitempty"`
	AssociatedAt time.Time
	ModifiedAt   time.Time
}

// Policy returns the entry's association with the policy.
func (e AccessEntry) Policy(arn string) (AssociatedPolicy, bool) {
	i := slices.IndexFunc(e.Policies, func(p AssociatedPolicy) bool { return p.ARN == arn })
	if i < 0 {
		return AssociatedPolicy{}, false
	}
	return e.Policies[i], true
}
