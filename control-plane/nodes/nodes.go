// Package nodes decides which EC2 instance may be which node of a cluster. It holds the
// checks that the token webhook and the certificate approver share, the approver itself,
// the only part that approves a node's certificate, and the roster, which removes the Nodes
// of instances that are gone.
//
// It promises that no certificate is approved and no Node removed while a check could not
// be made: trouble with EC2 or etcd delays an answer and never becomes a yes. It signs
// nothing; Kubernetes' own signer does, with the cluster's key.
package nodes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// userPrefix begins a node's user name, which ends with the Node's name.
	userPrefix = "system:node:"
	// Group is what every node is in.
	Group = "system:nodes"
	// BootstrapGroup is what nodes are in as well where a cluster still names them in aws-auth.
	BootstrapGroup = "system:bootstrappers"

	stateRunning    = "running"
	stateTerminated = "terminated"
)

// Instance is what the checks need to know of an EC2 instance.
type Instance struct {
	ID             string
	State          string // "running" and so on
	VPCID          string
	PrivateDNSName string
	PrivateIP      netip.Addr
	Addresses      []netip.Addr // of all its interfaces, IPv6 and public ones too
	PublicDNSName  string       // empty: none
	ProfileARN     string       // of its instance profile; empty: none
	Launched       time.Time    // when it was last started
	Tags           map[string]string
}

// Username is who the instance is to Kubernetes.
func (i Instance) Username() string { return userPrefix + i.PrivateDNSName }

// mayBe tells whether a Node of that name can be the instance's. A node may be named by its
// instance's ID; of an instance that has ended EC2 may tell no name.
func (i Instance) mayBe(node string) bool {
	return i.PrivateDNSName == "" || node == i.PrivateDNSName || node == i.ID
}

// RoleARN is the role that the instance's credentials are of, without a path. EC2 tells
// only the instance profile; telling its role takes an IAM call that few deployments allow
// a cluster, so the profile must have the role's name, as the AWS console makes it.
func (i Instance) RoleARN() string {
	head, resource, ok := strings.Cut(i.ProfileARN, ":instance-profile/")
	if !ok {
		return ""
	}
	return head + ":role/" + resource[strings.LastIndexByte(resource, '/')+1:]
}

// clusterTag names an instance's cluster where its tags are to show in its metadata: there,
// EC2 takes no key with a slash.
const clusterTag = "ovenbird.dev-cluster"

// CheckMember says why the instance may not be a node of the cluster, or nil.
func (i Instance) CheckMember(c registry.Cluster) error {
	switch tag := "kubernetes.io/cluster/" + c.Name; {
	case i.State != stateRunning:
		return fmt.Errorf("instance %s is %s, not running", i.ID, i.State)
	case i.VPCID != c.VPCID:
		return fmt.Errorf("instance %s is in %s, not in the cluster's %s", i.ID, i.VPCID, c.VPCID)
	case i.Tags[tag] != "owned" && i.Tags[tag] != "shared" && i.Tags[clusterTag] != c.Name:
		return fmt.Errorf("instance %s lacks the tag %s with the value owned or shared, or %s with the value %s", i.ID, tag, clusterTag, c.Name)
	case i.PrivateDNSName == "":
		return fmt.Errorf("instance %s has no private DNS name", i.ID)
	case !i.PrivateIP.IsValid() && len(i.Addresses) == 0:
		return fmt.Errorf("instance %s has no private address", i.ID)
	}
	return i.checkAccount(c)
}

// checkAccount demands a profile of the cluster's own account, in its partition.
func (i Instance) checkAccount(c registry.Cluster) error {
	own, err := arn.Parse(c.ARN)
	if err != nil {
		return fmt.Errorf("read the ARN of cluster %s: %w", c.Name, err)
	}
	profile, err := arn.Parse(i.ProfileARN)
	if err != nil {
		return fmt.Errorf("instance %s has no instance profile", i.ID)
	}
	if profile.Partition != own.Partition || profile.AccountID != own.AccountID {
		return fmt.Errorf("instance %s has the profile %s, which is not of the cluster's account %s in %s", i.ID, i.ProfileARN, own.AccountID, own.Partition)
	}
	return nil
}

// hasAddress tells whether traffic to the address reaches the instance.
func (i Instance) hasAddress(address netip.Addr) bool {
	return address.IsValid() && (address == i.PrivateIP || slices.Contains(i.Addresses, address))
}

// hasName tells whether the name is the instance's in DNS, or the first label of its private one.
func (i Instance) hasName(name string) bool {
	label, _, _ := strings.Cut(i.PrivateDNSName, ".")
	return name != "" && (name == i.PrivateDNSName || name == label || name == i.PublicDNSName)
}

// CheckRole says why the instance's own credentials cannot be of that role, or nil.
func (i Instance) CheckRole(roleARN string) error {
	if role := i.RoleARN(); role == "" || role != registry.CanonicalPrincipal(roleARN) {
		return fmt.Errorf("instance %s has the profile %q, whose name is not that of the role %s", i.ID, i.ProfileARN, roleARN)
	}
	return nil
}
