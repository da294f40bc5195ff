package cloudformation

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

func tell(client *cloudformation.Client, t *testing.T, stack, resource, id string, status types.ResourceSignalStatus) error {
	_, err := client.SignalResource(t.Context(), &cloudformation.SignalResourceInput{
		StackName: &stack, LogicalResourceId: &resource, UniqueId: &id, Status: status,
	})
	return err
}

const (
	success = types.ResourceSignalStatusSuccess
	failure = types.ResourceSignalStatusFailure
)

func TestInstancesSignalAResourceThatSomebodyWaitsFor(t *testing.T) {
	w := newWorld(t)
	refused(t, tell(w.Client, t, "workers", "Nodes", "i-1", success), "ValidationError", "Stack 'workers' does not exist")
	if err := w.signal.Expect("workers", "Nodes"); err != nil {
		t.Fatal(err)
	}
	refused(t, tell(w.Client, t, "workers", "Others", "i-1", success), "ValidationError", "Others")
	refused(t, tell(w.Client, t, "workers", "Nodes", "i-1", "PERHAPS"), "ValidationError", "PERHAPS")
	for _, id := range []string{"i-1", "i-2"} {
		if err := tell(w.Client, t, "workers", "Nodes", id, success); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, tell(w.Client, t, "workers", "Nodes", "i-1", success), "ValidationError", "Signal with ID i-1")
	if err := tell(w.Client, t, "workers", "Nodes", "i-1", failure); err != nil {
		t.Errorf("a success that became a failure: %v", err)
	}
	list, err := w.signal.Received("workers", "Nodes")
	if err != nil || !slices.Equal(list, []Signal{{"i-1", Failure}, {"i-2", Success}}) {
		t.Errorf("%v, %v", list, err)
	}
	w.signal.Forget("workers", "Nodes")
	refused(t, tell(w.Client, t, "workers", "Nodes", "i-3", success), "ValidationError", "does not exist")
}

func TestAnInstancesRoleSignalsForItselfAndDoesNothingElse(t *testing.T) {
	w := newWorld(t)
	client := w.client("ASIA")
	if err := w.signal.Expect("workers", "Nodes"); err != nil {
		t.Fatal(err)
	}
	if err := tell(client, t, "workers", "Nodes", "i-1", success); err != nil {
		t.Error(err)
	}
	refused(t, tell(client, t, "workers", "Nodes", "i-2", success), "AccessDenied", "cloudformation:SignalResource")
	_, err := client.ListStacks(t.Context(), &cloudformation.ListStacksInput{})
	refused(t, err, "AccessDenied", "cloudformation:ListStacks")
	_, err = w.ListTypes(t.Context(), &cloudformation.ListTypesInput{})
	refused(t, err, "InvalidAction", "ListTypes")
}

// waiting is a stack of a resource that waits for signals.
func waiting(count, timeout, percent string) string {
	return `
Resources:
  Nodes:
    Type: Test::Thing
    CreationPolicy:
      ResourceSignal: {Count: ` + count + `, Timeout: ` + timeout + `}
      AutoScalingCreationPolicy: {MinSuccessfulInstancesPercent: ` + percent + `}
  After: {Type: Test::Thing, DependsOn: Nodes}
`
}

func TestACreationPolicyWaitsForSignals(t *testing.T) {
	tests := []struct {
		name                    string
		count, timeout, percent string
		given                   []types.ResourceSignalStatus
		status, event           string
	}{
		{"all succeed", "2", "PT1M", "100", []types.ResourceSignalStatus{success, success}, createComplete, "Nodes CREATE_IN_PROGRESS Received SUCCESS signal with UniqueId i-1"},
		{"one fails", "2", "PT1M", "100", []types.ResourceSignalStatus{failure}, rollbackComplete, "Nodes CREATE_FAILED Received 1 FAILURE signal(s) out of 2. Unable to satisfy 100% MinSuccessfulInstancesPercent requirement"},
		{"one may fail", "2", "PT1M", "50", []types.ResourceSignalStatus{failure, success}, createComplete, "Nodes CREATE_COMPLETE"},
		{"one is late", "2", "PT1S", "100", []types.ResourceSignalStatus{success}, rollbackComplete, "Nodes CREATE_FAILED Failed to receive 1 resource signal(s) within the specified duration"},
		{"enough are in time", "2", "PT1S", "50", []types.ResourceSignalStatus{success}, createComplete, "Nodes CREATE_COMPLETE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			body := waiting(tt.count, tt.timeout, tt.percent)
			if _, err := w.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: &body}); err != nil {
				t.Fatal(err)
			}
			w.until("s", "Nodes", createInProgress)
			refused(t, tell(w.Client, t, "s", "Other", "i-1", success), "ValidationError", "Resource Other does not exist for stack s")
			for i, status := range tt.given {
				if err := tell(w.Client, t, "s", "Nodes", []string{"i-1", "i-2"}[i], status); err != nil {
					t.Fatal(err)
				}
			}
			st := w.settled("s")
			want(t, st, tt.status)
			if !slices.Contains(told(st), tt.event) {
				t.Errorf("told %v", told(st))
			}
			refused(t, tell(w.Client, t, "s", "Nodes", "i-9", success), "ValidationError", "state and cannot be signaled")
		})
	}
}

func TestSignalsOutliveTheDaemon(t *testing.T) {
	w := newWorld(t)
	body := waiting("2", "PT1M", "100")
	if _, err := w.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: &body}); err != nil {
		t.Fatal(err)
	}
	w.until("s", "Nodes", createInProgress)
	if err := tell(w.Client, t, "s", "Nodes", "i-1", success); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start()
	if err := tell(w.Client, t, "s", "Nodes", "i-2", success); err != nil {
		t.Fatal(err)
	}
	want(t, w.settled("s"), createComplete)
}
