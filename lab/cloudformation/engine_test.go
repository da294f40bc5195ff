package cloudformation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// chain is three resources, each on the one before it.
const chain = `
Parameters:
  Size: {Type: Number, Default: 1}
  Colour: {Type: String, Default: red}
Resources:
  A:
    Type: Test::Thing
    Properties: {Size: !Ref Size, Colour: !Ref Colour}
  B:
    Type: Test::Thing
    Properties: {Of: [!Ref A], Colour: blue}
  C:
    Type: Test::Thing
    DependsOn: B
Outputs:
  All: {Value: !Join ["-", !GetAtt A.Of.All], Export: {Name: !Sub "${AWS::StackName}-all"}}
`

func TestAStackIsMadeInOrderAndRemovedInReverse(t *testing.T) {
	w := newWorld(t)
	st := w.create("s", chain, func(in *cloudformation.CreateStackInput) {
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("x")}}
	})
	want(t, st, createComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"create A", "create B", "create C"}) {
		t.Errorf("made in the order %v", got)
	}
	events := []string{
		"s CREATE_IN_PROGRESS User Initiated", "A CREATE_IN_PROGRESS", "A CREATE_IN_PROGRESS Resource creation Initiated", "A CREATE_COMPLETE",
		"B CREATE_IN_PROGRESS", "B CREATE_IN_PROGRESS Resource creation Initiated", "B CREATE_COMPLETE",
		"C CREATE_IN_PROGRESS", "C CREATE_IN_PROGRESS Resource creation Initiated", "C CREATE_COMPLETE", "s CREATE_COMPLETE",
	}
	if got := told(st); !slices.Equal(got, events) {
		t.Errorf("told:\n%s", strings.Join(got, "\n"))
	}
	out, err := w.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("s")})
	if err != nil || len(out.Stacks) != 1 || *out.Stacks[0].Outputs[0].OutputValue != "thing-1-more" || *out.Stacks[0].Outputs[0].ExportName != "s-all" || *out.Stacks[0].Tags[0].Key != "team" {
		t.Errorf("%+v, %v", out, err)
	}
	want(t, w.remove("s"), deleteComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"delete C", "delete B", "delete A"}) || w.things.left() != 0 {
		t.Errorf("removed in the order %v, %d left", got, w.things.left())
	}
	_, err = w.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("s")})
	refused(t, err, "ValidationError", "Stack with id s does not exist")
	if out, err := w.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &st.ID}); err != nil || out.Stacks[0].StackStatus != types.StackStatusDeleteComplete {
		t.Errorf("by its ID: %+v, %v", out, err)
	}
}

func TestWhatBecomesOfAStackWhoseCreationFails(t *testing.T) {
	tests := []struct {
		onFailure types.OnFailure
		status    string
		calls     []string
		left      int
	}{
		{"", rollbackComplete, []string{"create A", "create B", "delete B", "delete A"}, 0},
		{types.OnFailureDelete, deleteComplete, []string{"create A", "create B", "delete B", "delete A"}, 0},
		{types.OnFailureDoNothing, createFailed, []string{"create A", "create B"}, 2},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.things.fails("create B")
		st := w.create("s", chain, func(in *cloudformation.CreateStackInput) { in.OnFailure = tt.onFailure })
		want(t, st, tt.status)
		if got := w.things.said(); !slices.Equal(got, tt.calls) || w.things.left() != tt.left {
			t.Errorf("%q: %v, %d left", tt.onFailure, got, w.things.left())
		}
		if !slices.Contains(told(st), "B CREATE_FAILED it broke") {
			t.Errorf("%q: told %v", tt.onFailure, told(st))
		}
		if tt.onFailure == "" && !slices.Contains(told(st), "s ROLLBACK_IN_PROGRESS The following resource(s) failed to create: [B]. Rollback requested by user.") {
			t.Errorf("told %v", told(st))
		}
		w.things.fails()
		want(t, w.remove(st.ID), deleteComplete)
		if w.things.left() != 0 {
			t.Errorf("%q: %d left after the deletion", tt.onFailure, w.things.left())
		}
	}
}

func with(values ...types.Parameter) func(*cloudformation.UpdateStackInput) {
	return func(in *cloudformation.UpdateStackInput) { in.Parameters = values }
}

func TestAnUpdateChangesReplacesAndCleansUp(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.said()
	want(t, w.update("s", chain, with(parameterOf("Size", "2"))), updateComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"update A"}) {
		t.Errorf("a change: %v", got)
	}
	st := w.update("s", chain, with(parameterOf("Size", "2"), parameterOf("Colour", "green")))
	want(t, st, updateComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"create A", "update B", "delete A"}) || st.Resources["A"].Now.ID != "thing-4" {
		t.Errorf("a replacement: %v", got)
	}
	if got := told(st); !slices.Contains(got, "A UPDATE_IN_PROGRESS "+replaces) || !slices.Contains(got, "s UPDATE_COMPLETE_CLEANUP_IN_PROGRESS") {
		t.Errorf("told %v", got)
	}
	if out := st.Outputs["All"].Value; out != "thing-4-more" {
		t.Errorf("the output is %s", out)
	}
	less := strings.Replace(chain, "  C:\n    Type: Test::Thing\n    DependsOn: B\n", "", 1)
	want(t, w.update("s", less, with(parameterOf("Size", "2"), parameterOf("Colour", "green"))), updateComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"delete C"}) || w.things.left() != 2 {
		t.Errorf("a removal: %v", got)
	}
	_, err := w.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("s"), UsePreviousTemplate: aws.Bool(true), Parameters: []types.Parameter{
		{ParameterKey: aws.String("Size"), UsePreviousValue: aws.Bool(true)}, parameterOf("Colour", "green"),
	}})
	refused(t, err, "ValidationError", "No updates are to be performed.")
}

func TestAnUpdateThatFailsIsRolledBack(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.said()
	w.things.fails("create D")
	more := chain + "\n"
	more = strings.Replace(more, "Outputs:", "  D: {Type: Test::Thing, DependsOn: [B, C]}\nOutputs:", 1)
	st := w.update("s", more, with(parameterOf("Colour", "green")))
	want(t, st, updateRollbackComplete)
	// The old A was never touched, and B was taken back to it.
	if got := w.things.said(); !slices.Equal(got[:4], []string{"create A", "update B", "create D", "update B"}) || len(got) != 6 || w.things.left() != 3 {
		t.Errorf("%v, %d left", got, w.things.left())
	}
	if st.Resources["A"].Now.ID != "thing-1" || fmt.Sprint(w.things.there["thing-2"]["Of"]) != "[thing-1]" || st.Resources["D"] != nil {
		t.Errorf("%+v, %v", st.Resources["A"].Now, w.things.there)
	}
	if got := told(st); !slices.Contains(got, "s UPDATE_ROLLBACK_IN_PROGRESS The following resource(s) failed to update: [D]. Rollback requested by user.") ||
		!slices.Contains(got, "s UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS") {
		t.Errorf("told %v", got)
	}
	want(t, w.update("s", chain, with(parameterOf("Size", "7"))), updateComplete)
}

func TestARollbackThatFailsGoesOnWhenToldTo(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.fails("update A")
	st := w.update("s", chain, with(parameterOf("Size", "2")))
	want(t, st, updateRollbackFailed)
	_, err := w.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("s"), TemplateBody: aws.String(chain)})
	refused(t, err, "ValidationError", "is in UPDATE_ROLLBACK_FAILED state and can not be updated")
	_, err = w.ContinueUpdateRollback(t.Context(), &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("s"), ResourcesToSkip: []string{"B"}})
	refused(t, err, "ValidationError", "B")
	if _, err := w.ContinueUpdateRollback(t.Context(), &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("s"), ResourcesToSkip: []string{"A"}}); err != nil {
		t.Fatal(err)
	}
	want(t, w.settledAfter("s", updateRollbackFailed), updateRollbackComplete)
	w.things.fails()
	want(t, w.remove("s"), deleteComplete)
}

func TestARollbackThatGoesOnIsAnotherTryForTheHandlers(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.fails("update A")
	want(t, w.update("s", chain, with(parameterOf("Size", "2"))), updateRollbackFailed)
	w.things.fails()
	if _, err := w.ContinueUpdateRollback(t.Context(), &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	want(t, w.settledAfter("s", updateRollbackFailed), updateRollbackComplete)
	tokens := slices.Sorted(slices.Values(w.things.tokens))
	if len(tokens) != 3 || len(slices.Compact(tokens)) != 3 {
		t.Errorf("the update, its undoing and the other try to undo it had the tokens %v", w.things.tokens)
	}
}

// settledAfter is settled for a stack that was told to leave a status.
func (w *world) settledAfter(name, status string) *stack {
	w.t.Helper()
	for {
		if st := w.settled(name); st.Status != status {
			return st
		}
	}
}

func TestAnUpdateThatKeepsItsFailureGoesOnWithTheNext(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.fails("update B")
	keep := func(in *cloudformation.UpdateStackInput) { in.DisableRollback = aws.Bool(true) }
	want(t, w.update("s", chain, with(parameterOf("Colour", "green")), keep), updateFailed)
	w.things.said()
	w.things.fails()
	want(t, w.update("s", chain, with(parameterOf("Colour", "green"))), updateComplete)
	if got := w.things.said(); !slices.Equal(got, []string{"update B", "delete A"}) || w.things.left() != 3 {
		t.Errorf("%v, %d left", got, w.things.left())
	}
}

func TestACancelledUpdateIsRolledBack(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.mu.Lock()
	w.things.before = func(ctx context.Context, call string) error {
		if call == "update A" && !slices.Contains(w.things.journal[:len(w.things.journal)-1], call) {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	w.things.mu.Unlock()
	if _, err := w.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("s"), TemplateBody: aws.String(chain), Parameters: []types.Parameter{parameterOf("Size", "2")}}); err != nil {
		t.Fatal(err)
	}
	w.until("s", "A", updateInProgress)
	if _, err := w.CancelUpdateStack(t.Context(), &cloudformation.CancelUpdateStackInput{StackName: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	st := w.settled("s")
	want(t, st, updateRollbackComplete)
	if got := told(st); !slices.Contains(got, "A UPDATE_FAILED Resource update cancelled") || !slices.Contains(got, "s UPDATE_ROLLBACK_IN_PROGRESS User Initiated") {
		t.Errorf("told %v", got)
	}
}

func TestAStackCanBeDeletedWhileItIsMade(t *testing.T) {
	w := newWorld(t)
	w.things.before = func(ctx context.Context, call string) error {
		if call == "create B" {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	if _, err := w.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: aws.String(chain)}); err != nil {
		t.Fatal(err)
	}
	w.until("s", "B", createInProgress)
	want(t, w.remove("s"), deleteComplete)
	if w.things.left() != 0 {
		t.Errorf("%d left", w.things.left())
	}
}

func TestPoliciesKeepWhatIsDeletedOrReplaced(t *testing.T) {
	w := newWorld(t)
	body := `
Parameters: {Colour: {Type: String, Default: red}}
Resources:
  Kept: {Type: Test::Thing, DeletionPolicy: Retain}
  Replaced: {Type: Test::Thing, UpdateReplacePolicy: Retain, Properties: {Colour: !Ref Colour}}
  Gone: {Type: Test::Thing, DeletionPolicy: RetainExceptOnCreate}
`
	w.create("s", body)
	want(t, w.update("s", body, with(parameterOf("Colour", "green"))), updateComplete)
	if w.things.left() != 4 {
		t.Errorf("%d left after the replacement", w.things.left())
	}
	st := w.remove("s")
	want(t, st, deleteComplete)
	if w.things.left() != 3 || !slices.Contains(told(st), "Kept DELETE_SKIPPED") || !slices.Contains(told(st), "Gone DELETE_SKIPPED") {
		t.Errorf("%d left: %v", w.things.left(), told(st))
	}
	w.things.fails("create Fails")
	want(t, w.create("t", body+"  Fails: {Type: Test::Thing, DependsOn: [Kept, Replaced, Gone]}\n"), rollbackComplete)
	if w.things.left() != 4 {
		t.Errorf("%d left: of a creation that failed only Kept stays", w.things.left())
	}
}

func TestWhatCannotBeDeletedIsToldAndCanBeLeft(t *testing.T) {
	w := newWorld(t)
	w.create("s", chain)
	w.things.fails("delete B")
	st := w.remove("s")
	want(t, st, deleteFailed)
	if !strings.Contains(st.Reason, "The following resource(s) failed to delete: [A, B].") && !strings.Contains(st.Reason, "[B]") {
		t.Errorf("%s", st.Reason)
	}
	if _, err := w.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("s"), RetainResources: []string{"B"}}); err != nil {
		t.Fatal(err)
	}
	want(t, w.settledAfter("s", deleteFailed), deleteComplete)
	if w.things.left() != 1 {
		t.Errorf("%d left", w.things.left())
	}
}

func TestExportsThatAreInUseStay(t *testing.T) {
	w := newWorld(t)
	w.create("net", chain)
	user := `Resources: {A: {Type: Test::Thing, Properties: {Colour: {"Fn::ImportValue": "net-all"}}}}`
	want(t, w.create("user", user), createComplete)
	if out, err := w.ListImports(t.Context(), &cloudformation.ListImportsInput{ExportName: aws.String("net-all")}); err != nil || !slices.Equal(out.Imports, []string{"user"}) {
		t.Errorf("%+v, %v", out, err)
	}
	st := w.remove("net")
	want(t, st, createComplete)
	if st.Reason != "Export net-all cannot be deleted as it is in use by user" {
		t.Errorf("%s", st.Reason)
	}
	st = w.update("net", chain, with(parameterOf("Colour", "green")))
	want(t, st, updateRollbackComplete)
	if !slices.Contains(told(st), "net UPDATE_ROLLBACK_IN_PROGRESS Export net-all cannot be updated as it is in use by user. Rollback requested by user.") {
		t.Errorf("%v", told(st))
	}
	st = w.create("twin", strings.Replace(chain, "${AWS::StackName}-all", "net-all", 1))
	want(t, st, rollbackComplete)
	if !slices.Contains(told(st), "twin ROLLBACK_IN_PROGRESS Export with name net-all is already exported by stack net. Rollback requested by user.") {
		t.Errorf("%v", told(st))
	}
	want(t, w.create("lost", `Resources: {A: {Type: Test::Thing, Properties: {Colour: {"Fn::ImportValue": "nothing"}}}}`), rollbackComplete)
	w.remove("user")
	want(t, w.remove("net"), deleteComplete)
}
