package workers_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	lab "github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const labTemplate = `
Parameters:
  ClusterName: {Type: String}
  Size: {Type: Number, Default: 1}
Resources:
  Workers: {Type: Test::Thing, Properties: {Size: !Ref Size}}
`

// thing is a resource type whose updates can break.
type thing struct{ breaks atomic.Bool }

func (t *thing) Create(context.Context, resource.Request) (string, error) { return "thing-1", nil }

func (t *thing) Update(_ context.Context, _ string, r resource.Request) error {
	if t.breaks.CompareAndSwap(true, false) { // and not the way back
		return errors.New("it broke")
	}
	return nil
}

func (t *thing) Delete(context.Context, string, resource.Request) error { return nil }

func (t *thing) Ref(id string) string { return id }

func (t *thing) Attribute(context.Context, string, string) (any, error) {
	return nil, resource.ErrNotFound
}

type administrator struct{}

func (administrator) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"}, nil
}

// labStacks is the lab's CloudFormation with things, on the wire.
func labStacks(t *testing.T, things *thing) workers.AWS {
	t.Helper()
	plan := vpc.Default()
	stacks := &lab.Stacks{
		Path: filepath.Join(t.TempDir(), "stacks.json"), Plan: plan, Now: time.Now, Logger: zap.NewNop(),
		Types: []resource.Type{{Name: "Test::Thing", Properties: &struct{ Size int }{}, Handler: things}},
	}
	if err := stacks.Open(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{lab.Service{Stacks: stacks}}, Keys: administrator{}, Regions: plan.Regions(), Now: time.Now, Logger: zap.NewNop(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { stacks.Run(ctx) })
	t.Cleanup(func() { server.Close(); cancel(); running.Wait() })
	client := cloudformation.New(cloudformation.Options{
		Region: plan.Region, BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", ""),
	})
	return workers.AWS{Stacks: client, Proposals: client, Operations: client}
}

func TestAStackLivesAndDiesOnTheWire(t *testing.T) {
	things := &thing{}
	stack := workers.Stack{Cluster: "demo", Name: "demo-workers", AWS: labStacks(t, things)}
	if _, err := stack.Describe(t.Context()); !errors.Is(err, workers.ErrNotFound) {
		t.Fatalf("before there is one: %v", err)
	}
	follow := func(o workers.Operation, err error) workers.Outcome {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		outcome, err := stack.Follow(t.Context(), o, &seen{})
		if err != nil {
			t.Fatal(err)
		}
		return outcome
	}
	propose := func(p workers.Proposal) workers.ChangeSet {
		t.Helper()
		set, err := stack.Propose(t.Context(), p, &seen{})
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	described := func() workers.State {
		t.Helper()
		now, err := stack.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return now
	}

	set := propose(workers.Proposal{Template: labTemplate, Values: map[string]string{"ClusterName": "demo"}})
	if len(set.Changes) != 1 || set.Changes[0].Action != "Add" || len(set.Parameters) != 2 {
		t.Errorf("to be made: %+v", set)
	}
	if outcome := follow(stack.Execute(t.Context(), set)); outcome.Status != "CREATE_COMPLETE" {
		t.Fatalf("made: %+v", outcome)
	}
	now := described()
	if set := propose(workers.Proposal{Now: &now}); !set.Empty() {
		t.Errorf("nothing to change: %+v", set)
	}

	things.breaks.Store(true)
	set = propose(workers.Proposal{Now: &now, Values: map[string]string{"Size": "2"}})
	if len(set.Changes) != 1 || set.Changes[0].Action != "Modify" || len(set.Parameters) != 1 || set.Parameters[0] != (workers.ParameterChange{Name: "Size", Before: "1", After: "2"}) {
		t.Errorf("to be changed: %+v", set)
	}
	outcome := follow(stack.Execute(t.Context(), set))
	if outcome.Status != "UPDATE_ROLLBACK_COMPLETE" || outcome.Failure == nil || outcome.Failure.LogicalID != "Workers" {
		t.Errorf("changed: %+v", outcome)
	}
	status, err := stack.Status(t.Context(), described())
	if err != nil || status.Failure == nil || status.Failure.LogicalID != "Workers" || status.Parameters["Size"] != "1" {
		t.Errorf("after the way back: %+v, %v", status, err)
	}

	if outcome := follow(stack.Delete(t.Context(), now)); outcome.Status != "DELETE_COMPLETE" {
		t.Errorf("deleted: %+v", outcome)
	}
	set = propose(workers.Proposal{Template: labTemplate, Values: map[string]string{"ClusterName": "demo"}})
	if err := stack.Discard(t.Context(), set); err != nil {
		t.Error(err)
	}
}
