package operator

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

const (
	roleType = "AWS::IAM::Role"
	// nodeEntry is the type of access entries of nodes.
	nodeEntry = "EC2_LINUX"
	// entryTries is for how many looks the EKS API may not know a role that IAM has just made.
	entryTries = 30
)

// roleEntry makes the access entry of the role of nodes, without which none becomes Ready: as
// the stack makes the role, since nodes come right after it.
type roleEntry struct {
	create    func(role string) error
	stackID   string
	principal string // wanted, and not made yet
	tries     int
	problem   error // of the last try
}

// happened is told of the stack's events.
func (r *roleEntry) happened(e workers.Event) {
	if e.Type == roleType && e.Status == "CREATE_COMPLETE" {
		r.want(roleARN(r.stackID, e.PhysicalID))
	}
}

func (r *roleEntry) want(principal string) {
	r.principal, r.tries = principal, 0
	r.try()
}

// try makes the entry that is wanted.
func (r *roleEntry) try() {
	if r.principal == "" || r.tries == entryTries {
		return
	}
	r.tries++
	if r.problem = r.create(r.principal); r.problem == nil {
		r.principal = ""
	}
}

// roleARN is a role of the account that a stack is in.
func roleARN(stackID, role string) string {
	parts := strings.SplitN(stackID, ":", 6) // arn:aws:cloudformation:us-west-2:111122223333:stack/...
	if len(parts) < 6 {
		return role
	}
	return fmt.Sprintf("arn:%s:iam::%s:role/%s", parts[1], parts[4], role)
}

// letIn returns what makes the access entries of a run's stack.
func (r *workersRun) letIn(ctx context.Context, stackID string) *roleEntry {
	return &roleEntry{stackID: stackID, create: func(role string) error {
		_, err := createEntry(ctx, r.clusters, r.stack.Cluster, entryFlags{principal: role, kind: nodeEntry, ifMissing: true})
		return err
	}}
}

// shutOut removes the access entries of roles that went with the stack.
func (r *workersRun) shutOut(ctx context.Context, roles []string) error {
	for _, role := range roles {
		_, err := call(ctx, r.clusters.DeleteAccessEntry, &eks.DeleteAccessEntryInput{ClusterName: aws.String(r.stack.Cluster), PrincipalArn: aws.String(role)})
		if err != nil && !isNotFound(err) { // nor is there any when the cluster is gone
			return apiError("delete access entry of "+role+" in cluster "+r.stack.Cluster, err)
		}
	}
	return nil
}
