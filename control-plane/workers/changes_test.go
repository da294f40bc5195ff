package workers_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
)

const small = `
Parameters:
  ClusterName: {Type: String}
  ImageId: {Type: String, Default: ''}
  MaxSize: {Type: Number, Default: 4}
Resources:
  Workers: !Ref Whatever
`

// existing is a stack of the cluster demo.
func existing(status types.StackStatus, parameters map[string]string) *types.Stack {
	stack := &types.Stack{StackName: aws.String("demo-workers"), StackId: aws.String(stackID), StackStatus: status, CreationTime: &began}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		stack.Parameters = append(stack.Parameters, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(parameters[name])})
	}
	return stack
}

func modify(logicalID, replacement string, properties ...string) types.Change {
	change := &types.ResourceChange{Action: types.ChangeActionModify, LogicalResourceId: aws.String(logicalID), ResourceType: aws.String("AWS::EC2::LaunchTemplate"), Replacement: types.Replacement(replacement)}
	for _, p := range properties {
		change.Details = append(change.Details, types.ResourceChangeDetail{Target: &types.ResourceTargetDefinition{Attribute: types.ResourceAttributeProperties, Name: aws.String(p)}})
	}
	return types.Change{Type: types.ChangeTypeResource, ResourceChange: change}
}

func TestAProposalSaysWhatIsGivenAndKeepsTheRest(t *testing.T) {
	now := &workers.State{ID: stackID, Status: "UPDATE_COMPLETE", Parameters: map[string]string{"ClusterName": "demo", "ImageId": "ami-1", "Dropped": "x"}}
	for name, test := range map[string]struct {
		proposal workers.Proposal
		want     string // parameters, "=" for a value and "~" for the previous one
		kind     types.ChangeSetType
		previous bool
		err      string
	}{
		"a new stack has what is given, and the template's defaults": {
			proposal: workers.Proposal{Template: small, Values: map[string]string{"ClusterName": "demo", "ImageId": "ami-1"}},
			want:     "ClusterName=demo ImageId=ami-1", kind: types.ChangeSetTypeCreate,
		},
		"an update keeps the template and whatever is not given": {
			proposal: workers.Proposal{Now: now, Values: map[string]string{"ImageId": "ami-2"}},
			want:     "ClusterName~ Dropped~ ImageId=ami-2", kind: types.ChangeSetTypeUpdate, previous: true,
		},
		"a parameter can be emptied": {
			proposal: workers.Proposal{Now: now, Values: map[string]string{"ImageId": ""}},
			want:     "ClusterName~ Dropped~ ImageId=", kind: types.ChangeSetTypeUpdate, previous: true,
		},
		"another template keeps the values of the parameters that it has": {
			proposal: workers.Proposal{Now: now, Template: small, Values: map[string]string{"MaxSize": "5"}},
			want:     "ClusterName~ ImageId~ MaxSize=5", kind: types.ChangeSetTypeUpdate,
		},
		"a parameter that the template has not is refused by name": {
			proposal: workers.Proposal{Template: small, Values: map[string]string{"Maxsize": "5"}},
			err:      "the template has no parameter Maxsize; it has ClusterName, ImageId, MaxSize",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{changeSet: []cloudformation.DescribeChangeSetOutput{{Status: types.ChangeSetStatusCreateComplete}}}
			_, err := a.workers().Propose(t.Context(), test.proposal, &seen{})
			if test.err != "" {
				if err == nil || err.Error() != test.err || a.proposed != nil {
					t.Errorf("proposed: %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range a.proposed.Parameters {
				if aws.ToBool(p.UsePreviousValue) {
					got = append(got, *p.ParameterKey+"~")
				} else {
					got = append(got, *p.ParameterKey+"="+*p.ParameterValue)
				}
			}
			if strings.Join(got, " ") != test.want || a.proposed.ChangeSetType != test.kind || aws.ToBool(a.proposed.UsePreviousTemplate) != test.previous || (a.proposed.TemplateBody == nil) != test.previous {
				t.Errorf("proposed %q as %s, want %q", got, a.proposed.ChangeSetType, test.want)
			}
		})
	}
}

func TestAChangeSetTellsWhatItWouldDo(t *testing.T) {
	now := &workers.State{ID: stackID, Parameters: map[string]string{"ClusterName": "demo", "ImageId": "ami-1"}}
	a := &account{changeSet: []cloudformation.DescribeChangeSetOutput{
		{Status: types.ChangeSetStatusCreateComplete, Changes: []types.Change{modify("LaunchTemplate", "False", "LaunchTemplateData", "LaunchTemplateData")}},
		{Status: types.ChangeSetStatusCreateComplete, Changes: []types.Change{modify("Workers", "Conditional", "LaunchTemplate")}, Parameters: existing("", map[string]string{"ClusterName": "demo", "ImageId": "ami-2"}).Parameters},
	}}
	set, err := a.workers().Propose(t.Context(), workers.Proposal{Now: now, Values: map[string]string{"ImageId": "ami-2"}}, &seen{})
	if err != nil || set.Empty() || len(set.Changes) != 2 {
		t.Fatalf("proposed %+v, %v", set, err)
	}
	if c := set.Changes[0]; c.Action != "Modify" || c.LogicalID != "LaunchTemplate" || c.Type != "AWS::EC2::LaunchTemplate" || c.Replacement != "False" || !slices.Equal(c.Properties, []string{"LaunchTemplateData"}) {
		t.Errorf("first change: %+v", c)
	}
	if want := []workers.ParameterChange{{Name: "ImageId", Before: "ami-1", After: "ami-2"}}; !slices.Equal(set.Parameters, want) {
		t.Errorf("parameters change: %+v, want %+v", set.Parameters, want)
	}
	if _, err := a.workers().Execute(t.Context(), set); err != nil || !slices.Equal(a.did, []string{"propose UPDATE", "execute set-1"}) {
		t.Errorf("did %q, %v", a.did, err)
	}
}

func TestAChangeSetThatFailsIsRemoved(t *testing.T) {
	now := &workers.State{ID: stackID, Parameters: map[string]string{"ClusterName": "demo"}}
	for name, test := range map[string]struct {
		now    *workers.State
		reason string
		err    string
		did    []string
	}{
		"nothing to change is no failure": {
			now: now, reason: "The submitted information didn't contain changes. Submit different information to create a change set.", did: []string{"propose UPDATE", "discard set-1"}},
		"nothing to change, in CloudFormation's other words": {
			now: now, reason: "No updates are to be performed.", did: []string{"propose UPDATE", "discard set-1"}},
		"what cannot be is said in CloudFormation's words": {
			now: now, reason: "Template error: MinSize", err: "CloudFormation cannot change stack demo-workers so: Template error: MinSize", did: []string{"propose UPDATE", "discard set-1"}},
		"a stack that was to be made leaves nothing": {
			reason: "Template error: MinSize", err: "CloudFormation cannot change stack demo-workers so: Template error: MinSize", did: []string{"propose CREATE", "discard set-1", "delete " + stackID}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{changeSet: []cloudformation.DescribeChangeSetOutput{{Status: types.ChangeSetStatusFailed, StatusReason: aws.String(test.reason)}}}
			set, err := a.workers().Propose(t.Context(), workers.Proposal{Template: small, Now: test.now}, &seen{})
			said := ""
			if err != nil {
				said = err.Error()
			}
			if said != test.err || !set.Empty() || !slices.Equal(a.did, test.did) {
				t.Errorf("proposed %+v, %q, having done %q", set, said, a.did)
			}
		})
	}
}

func TestAChangeSetIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &account{changeSet: []cloudformation.DescribeChangeSetOutput{{Status: types.ChangeSetStatusCreateInProgress}}}
		watcher := &seen{}
		made := awaited{seen: watcher, then: func() { a.changeSet[0].Status = types.ChangeSetStatusCreateComplete }}
		if set, err := a.workers().Propose(t.Context(), workers.Proposal{Template: small}, made); err != nil || set.Empty() || watcher.waits != 1 {
			t.Errorf("proposed %+v, %v, after %d waits", set, err, watcher.waits)
		}
	})
}

// awaited does something at the first wait.
type awaited struct {
	*seen
	then func()
}

func (a awaited) Waiting(err error) {
	a.seen.Waiting(err)
	a.then()
}

func TestAStackIsThatOfTheClustersWorkers(t *testing.T) {
	for name, test := range map[string]struct {
		stack *types.Stack
		err   string
	}{
		"it is":                    {stack: existing(types.StackStatusCreateComplete, map[string]string{"ClusterName": "demo"})},
		"it was only proposed":     {stack: existing(types.StackStatusReviewInProgress, nil)},
		"it is another cluster's":  {stack: existing(types.StackStatusCreateComplete, map[string]string{"ClusterName": "prod"}), err: "stack demo-workers holds the workers of cluster prod"},
		"it is of something else":  {stack: existing(types.StackStatusCreateComplete, nil), err: "stack demo-workers holds the workers of no cluster: it has no parameter ClusterName"},
		"there is no such a stack": {err: "stack demo-workers: the stack does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{stack: test.stack}
			state, err := a.workers().Describe(t.Context())
			switch {
			case test.err == "" && (err != nil || state.ID != stackID):
				t.Errorf("described %+v, %v", state, err)
			case test.err != "" && (err == nil || err.Error() != test.err):
				t.Errorf("described: %v, want %s", err, test.err)
			case errors.Is(err, workers.ErrNotFound) != (test.stack == nil):
				t.Errorf("not found: %v", err)
			}
		})
	}
}
