// Package iam says who a caller is: it verifies the AWS identity behind a bearer token and
// turns it, through the cluster's access entries or its ConfigMap aws-auth, into a Kubernetes
// user.
//
// A token of a node's role is already all of a node's rights, so the webhook answers for
// one only after the instance has passed every check that its certificate needs too. What
// it cannot verify it refuses; why is in our log alone, never in the answer.
//
// Callers of the EKS API prove themselves to Callers, by such a token too or by a signature;
// Authorizer decides what each may do.
package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/component"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// AdminGroup is bound to cluster-admin in every cluster. Certificates name it; who comes by
// a token is in the groups of access policies instead.
const AdminGroup = "ovenbird:cluster-admins"

// Principal is an AWS identity with the session that it came in, if any.
type Principal struct {
	ststoken.Identity
	CanonicalARN string // of the role or user, as access entries name it
	Session      string // the role session's name; on EC2 the instance ID
}

// NewPrincipal canonicalises an identity that STS gave.
func NewPrincipal(identity ststoken.Identity) Principal {
	if role, session, ok := ststoken.RoleSession(identity.ARN); ok {
		return Principal{identity, role, session}
	}
	return Principal{Identity: identity, CanonicalARN: identity.ARN}
}

// User is who a principal is to Kubernetes.
type User struct {
	Name   string
	UID    string
	Groups []string
}

// Instances finds EC2 instances, and sees to it that no Node of the holder's name is another
// instance's; *nodes.Roster does.
type Instances interface {
	ByID(ctx context.Context, id string) (nodes.Instance, error)
	Vacate(ctx context.Context, cluster string, holder nodes.Instance) error
}

// instanceUser answers for an instance: the session must be named after one that is, by its
// role's credentials and by every other check, a node of the cluster. Whatever an entry
// says, an instance gets no node's name but its own.
func instanceUser(ctx context.Context, instances Instances, c registry.Cluster, entry registry.AccessEntry, p Principal) (User, error) {
	if p.Session == "" {
		return User{}, errors.New("the caller is no role session, so no instance")
	}
	instance, err := instances.ByID(ctx, p.Session)
	if err != nil {
		return User{}, err
	}
	if err := instance.CheckMember(c); err != nil {
		return User{}, err
	}
	if err := instance.CheckRole(p.CanonicalARN); err != nil {
		return User{}, err
	}
	if entry.OfNodes() {
		if err := instances.Vacate(ctx, c.Name, instance); err != nil {
			return User{}, err
		}
	}
	user := User{Name: instance.Username(), UID: instance.ID, Groups: []string{nodes.Group}}
	if entry.Type == registry.TypeEC2Linux {
		return user, nil
	}
	if entry.OfNodes() {
		for _, group := range entry.Groups {
			if group != nodes.Group {
				user.Groups = append(user.Groups, group)
			}
		}
		return user, checkGroups(user.Groups, nodes.Group, nodes.BootstrapGroup)
	}
	user.Groups = slices.Clone(entry.Groups)
	user.Name, err = userName(strings.ReplaceAll(entry.Username, "{{EC2PrivateDNSName}}", instance.PrivateDNSName), p)
	return user, errors.Join(err, checkGroups(user.Groups))
}

// standardUser answers for a person or a program with an entry of type STANDARD.
func standardUser(entry registry.AccessEntry, p Principal) (User, error) {
	template := entry.Username
	if template == "" {
		template = p.ARN
	}
	// The user ID of a role goes on with a colon and the session's name.
	id, _, _ := strings.Cut(p.UserID, ":")
	name, err := userName(template, p)
	if err != nil {
		return User{}, err
	}
	// Of those that belong to Kubernetes, aws-auth alone can name the administrators: the
	// EKS API refuses an access entry that does.
	if err := checkGroups(entry.Groups, "system:masters"); err != nil {
		return User{}, err
	}
	return User{
		Name: name, UID: "aws-iam-authenticator:" + p.Account + ":" + id,
		Groups: append(slices.Clone(entry.Groups), access.Groups(entry.Policies)...),
	}, nil
}

// userName fills in the templates of EKS. A session name may hold @, which EKS shows as a
// hyphen; its caller chooses it, so what is reserved is looked for afterwards.
func userName(template string, p Principal) (string, error) {
	if strings.Contains(template, "{{AccessKeyID}}") && p.AccessKeyID == "" {
		return "", errors.New("the user name is to hold the access key's ID, which is not known")
	}
	name := strings.NewReplacer(
		"{{AccountID}}", p.Account,
		"{{SessionName}}", strings.ReplaceAll(p.Session, "@", "-"),
		"{{SessionNameRaw}}", p.Session,
		"{{AccessKeyID}}", p.AccessKeyID,
	).Replace(template)
	if isReserved(name) {
		return "", fmt.Errorf("the user name becomes %q, which is reserved", name)
	}
	if strings.Contains(name, "{{") {
		return "", fmt.Errorf("the user name becomes %q, which still has a template in it", name)
	}
	return name, nil
}

// checkGroups says which group is reserved and not among those allowed, or nil.
func checkGroups(groups []string, allowed ...string) error {
	for _, group := range groups {
		if isReserved(group) && !slices.Contains(allowed, group) {
			return fmt.Errorf("the group %q is reserved", group)
		}
	}
	return nil
}

// isReserved tells whether a name is Kubernetes' or ours, or has rights in every cluster.
func isReserved(name string) bool {
	return strings.HasPrefix(name, "system:") || strings.HasPrefix(name, "ovenbird:") || name == component.KubeletClientUser
}
