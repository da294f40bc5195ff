// Package iam says who a caller is: it verifies the AWS identity behind a bearer token and
// turns it, through the cluster's access entries, into a Kubernetes user.
//
// A token of a node's role is already all of a node's rights, so the webhook answers for
// one only after the instance has passed every check that its certificate needs too. What
// it cannot verify it refuses; why is in our log alone, never in the answer.
package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// AdminGroup is bound to cluster-admin in every cluster.
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

// Instances finds EC2 instances; *nodes.Instances does.
type Instances interface {
	ByID(ctx context.Context, id string) (nodes.Instance, error)
}

// nodeUser answers for an instance: the session must be named after one that is, by its
// role's credentials and by every other check, a node of the cluster.
func nodeUser(ctx context.Context, instances Instances, c registry.Cluster, p Principal) (User, error) {
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
	return User{Name: instance.Username(), UID: instance.ID, Groups: []string{nodes.Group}}, nil
}

// standardUser answers for a person or a program with an entry of type STANDARD.
func standardUser(entry registry.AccessEntry, p Principal) (User, error) {
	user := User{Name: entry.Username, UID: "aws-iam-authenticator:" + p.Account + ":" + p.UserID, Groups: slices.Clone(entry.Groups)}
	if user.Name == "" {
		user.Name = p.ARN
	}
	// The templates of EKS. A session name may hold @, which EKS shows as a hyphen.
	user.Name = strings.NewReplacer(
		"{{AccountID}}", p.Account,
		"{{SessionName}}", strings.ReplaceAll(p.Session, "@", "-"),
		"{{SessionNameRaw}}", p.Session,
	).Replace(user.Name)
	if strings.HasPrefix(user.Name, "system:") || strings.HasPrefix(user.Name, "ovenbird:") {
		return User{}, fmt.Errorf("the access entry's user name becomes %q, which is reserved", user.Name)
	}
	if _, admin := entry.Policy(registry.ClusterAdminPolicy); admin {
		user.Groups = append(user.Groups, AdminGroup)
	}
	return user, nil
}
