package cloudformation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

func (w *world) set(kind types.ChangeSetType, name, body string, values ...types.Parameter) *cloudformation.DescribeChangeSetOutput {
	w.t.Helper()
	made, err := w.CreateChangeSet(w.t.Context(), &cloudformation.CreateChangeSetInput{
		StackName: aws.String("s"), ChangeSetName: &name, ChangeSetType: kind, TemplateBody: &body, Parameters: values, Tags: []types.Tag{},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := w.DescribeChangeSet(w.t.Context(), &cloudformation.DescribeChangeSetInput{ChangeSetName: made.Id})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// changed is what a change set would do, in short.
func changed(out *cloudformation.DescribeChangeSetOutput) []string {
	var list []string
	for _, c := range out.Changes {
		r := c.ResourceChange
		text := fmt.Sprintf("%s %s %s", r.Action, *r.LogicalResourceId, r.Replacement)
		for _, d := range r.Details {
			text += fmt.Sprintf(" %s/%s/%s/%s/%s", aws.ToString(d.Target.Name), d.Target.RequiresRecreation, d.Evaluation, d.ChangeSource, aws.ToString(d.CausingEntity))
		}
		list = append(list, strings.TrimSpace(text))
	}
	return list
}

func TestAChangeSetTellsWhatItWouldDoAndDoesIt(t *testing.T) {
	w := newWorld(t)
	first := w.set(types.ChangeSetTypeCreate, "first", chain)
	if got := changed(first); !slices.Equal(got, []string{"Add A", "Add B", "Add C"}) {
		t.Errorf("%v", got)
	}
	if st, _ := w.stacks.find("s"); st.Status != reviewInProgress {
		t.Errorf("the stack is %s", st.Status)
	}
	run := func(name string) *stack {
		t.Helper()
		if _, err := w.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: aws.String("s"), ChangeSetName: &name}); err != nil {
			t.Fatal(err)
		}
		return w.settled("s")
	}
	want(t, run("first"), createComplete)

	none := w.set(types.ChangeSetTypeUpdate, "none", chain)
	if none.Status != types.ChangeSetStatusFailed || aws.ToString(none.StatusReason) != withoutChanges || none.ExecutionStatus != types.ExecutionStatusUnavailable {
		t.Errorf("without changes: %s, %v", none.Status, none.StatusReason)
	}
	_, err := w.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{StackName: aws.String("s"), ChangeSetName: aws.String("none")})
	refused(t, err, "InvalidChangeSetStatus", "cannot be executed in its current status of [FAILED]")

	size := w.set(types.ChangeSetTypeUpdate, "size", chain, parameterOf("Size", "2"))
	if got := changed(size); !slices.Equal(got, []string{"Modify A False Size/Never/Static/ParameterReference/Size"}) {
		t.Errorf("%v", got)
	}
	more := strings.Replace(chain, "  C:\n    Type: Test::Thing\n    DependsOn: B\n", "  D: {Type: Test::Thing, Properties: {Colour: !Ref A}}\n", 1)
	colour := w.set(types.ChangeSetTypeUpdate, "colour", more, parameterOf("Colour", "green"))
	if got := changed(colour); !slices.Equal(got, []string{
		"Modify A True Colour/Always/Static/ParameterReference/Colour", "Modify B False Of/Never/Dynamic/ResourceReference/A", "Remove C", "Add D",
	}) {
		t.Errorf("%v", got)
	}
	want(t, run("colour"), updateComplete)
	// D's own colour follows A, which is replaced again.
	again := w.set(types.ChangeSetTypeUpdate, "again", more, parameterOf("Colour", "blue"))
	if got := changed(again); !slices.Contains(got, "Modify D Conditional Colour/Conditionally/Dynamic/ResourceReference/A") {
		t.Errorf("%v", got)
	}
	list, err := w.ListChangeSets(t.Context(), &cloudformation.ListChangeSetsInput{StackName: aws.String("s")})
	if err != nil || len(list.Summaries) != 3 {
		t.Errorf("executing one removes the others that were not: %+v, %v", list, err)
	}
	if _, err := w.DeleteChangeSet(t.Context(), &cloudformation.DeleteChangeSetInput{StackName: aws.String("s"), ChangeSetName: aws.String("again")}); err != nil {
		t.Error(err)
	}
	_, err = w.DescribeChangeSet(t.Context(), &cloudformation.DescribeChangeSetInput{StackName: aws.String("s"), ChangeSetName: aws.String("again")})
	refused(t, err, "ChangeSetNotFound", "ChangeSet [again] does not exist")
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.create("there", "Resources: {A: {Type: Test::Thing}}", func(in *cloudformation.CreateStackInput) { in.EnableTerminationProtection = aws.Bool(true) })
	const small = "Resources: {A: {Type: Test::Thing}}"
	create := func(body string, change ...func(*cloudformation.CreateStackInput)) func() error {
		return func() error {
			in := &cloudformation.CreateStackInput{StackName: aws.String("new"), TemplateBody: &body}
			for _, c := range change {
				c(in)
			}
			_, err := w.CreateStack(t.Context(), in)
			return err
		}
	}
	type in = cloudformation.CreateStackInput
	tests := []struct {
		name          string
		call          func() error
		code, message string
	}{
		{"a name", create(small, func(in *in) { in.StackName = aws.String("1st") }), "ValidationError", "[a-zA-Z][-a-zA-Z0-9]*"},
		{"a name that is taken", create(small, func(in *in) { in.StackName = aws.String("there") }), "AlreadyExistsException", "Stack [there] already exists"},
		{"a template elsewhere", create(small, func(in *in) { in.TemplateBody, in.TemplateURL = nil, aws.String("https://example.com/x") }), "ValidationError", "does not read a TemplateURL"},
		{"a template that is too long", create(small + strings.Repeat("#", 51200)), "ValidationError", "less than or equal to 51200"},
		{"no template", create(""), "ValidationError", "Either Template URL or Template Body must be specified."},
		{"an unknown type", create("Resources: {A: {Type: Test::Foo}}"), "ValidationError", "Unrecognized resource types: [Test::Foo]"},
		{"an unknown property", create("Resources: {A: {Type: Test::Thing, Properties: {Hue: 1}}}"), "ValidationError", "the lab does not support the property /Hue"},
		{"one in a branch", create("Conditions: {C: !Equals [a, a]}\nResources: {A: {Type: Test::Thing, Properties: {Nested: !If [C, {Kind: a}, {Sort: b}]}}}"), "ValidationError", "/Nested/Sort"},
		{"a missing property", create("Resources: {A: {Type: Test::Named}}"), "ValidationError", "Property Size cannot be empty."},
		{"a property that is none", create("Resources: {A: {Type: Test::Named, Properties: {Size: !Ref 'AWS::NoValue'}}}"), "ValidationError", "Property Size"},
		{"a number that is none", create("Resources: {A: {Type: Test::Thing, Properties: {Size: many}}}"), "ValidationError", "/Size"},
		{"a policy", create("Resources: {A: {Type: Test::Thing, UpdatePolicy: {AutoScalingRollingUpdate: {Foo: 1}}}}"), "ValidationError", "UpdatePolicy: the lab does not support the property /AutoScalingRollingUpdate/Foo"},
		{"a snapshot", create("Resources: {A: {Type: Test::Thing, DeletionPolicy: Snapshot}}"), "ValidationError", "does not support the policy Snapshot for the type Test::Thing"},
		{"a resource that is not made", create("Conditions: {C: !Equals [a, b]}\nResources: {A: {Type: Test::Thing, Condition: C}, B: {Type: Test::Thing, Properties: {Colour: !Ref A}}}"), "ValidationError", "Unresolved resource dependencies [A]"},
		{"a missing parameter", create("Parameters: {P: {Type: String}}\n" + small), "ValidationError", "Parameters: [P] must have values"},
		{"a parameter of SSM", create("Parameters: {P: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /none}}\n" + small), "ValidationError", "Unable to fetch parameters [/none]"},
		{"a rule", create("Rules: {R: {Assertions: [{Assert: !Equals [a, b], AssertDescription: a is not b}]}}\n" + small), "ValidationError", "a is not b"},
		{"a role", create("Resources: {A: {Type: AWS::IAM::Role}}"), "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]"},
		{"a role with a name", create("Resources: {A: {Type: AWS::IAM::Role, Properties: {RoleName: r}}}", func(in *in) {
			in.Capabilities = []types.Capability{types.CapabilityCapabilityIam}
		}), "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]"},
		{"a role for CloudFormation", create(small, func(in *in) { in.RoleARN = aws.String("arn:aws:iam::111122223333:role/r") }), "ValidationError", "The lab does not support the parameter RoleARN"},
		{"a trigger", create(small, func(in *in) {
			in.RollbackConfiguration = &types.RollbackConfiguration{MonitoringTimeInMinutes: aws.Int32(5)}
		}), "ValidationError", "RollbackConfiguration"},
		{"both of two", create(small, func(in *in) { in.DisableRollback, in.OnFailure = aws.Bool(true), types.OnFailureDelete }), "ValidationError", "You cannot specify both"},
		{"the deletion of what is protected", func() error {
			_, err := w.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("there")})
			return err
		}, "ValidationError", "cannot be deleted while TerminationProtection is enabled"},
		{"another type", func() error {
			_, err := w.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("there"), TemplateBody: aws.String("Resources: {A: {Type: Test::Named, Properties: {Size: 1}}}")})
			return err
		}, "ValidationError", "Update of resource type is not permitted"},
		{"an update of nothing", func() error {
			_, err := w.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("none"), TemplateBody: aws.String(small)})
			return err
		}, "ValidationError", "Stack [none] does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.call(), tt.code, tt.message) })
	}
	if _, ok := w.stacks.find("new"); ok || w.things.left() != 1 {
		t.Error("something was made")
	}
}

func TestACreationThatTakesTooLongIsRolledBack(t *testing.T) {
	w := newWorld(t)
	body := waiting("1", "PT1H", "100")
	if _, err := w.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: &body, TimeoutInMinutes: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	w.until("s", "Nodes", createInProgress)
	w.stop()
	w.start(func(s *Stacks) { s.Now = func() time.Time { return time.Now().Add(time.Minute) } })
	st := w.settled("s")
	want(t, st, rollbackComplete)
	if !slices.Contains(told(st), "s ROLLBACK_IN_PROGRESS Stack creation time exceeded the specified timeout. Rollback requested by user.") {
		t.Errorf("told %v", told(st))
	}
}

func TestParametersOfSSMAndSecretsInDescriptions(t *testing.T) {
	w := newWorld(t)
	body := `
Parameters:
  Image: {Type: "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", Default: /ami}
  Secret: {Type: String, NoEcho: true, Default: hidden}
Resources: {A: {Type: Test::Thing, Properties: {Colour: !Ref Image, Size: "{{resolve:ssm:/size}}"}}}
`
	w.ssm["/size"] = "3"
	want(t, w.create("s", body), createComplete)
	if got := w.things.there["thing-1"]; got["Colour"] != "ami-0123456789abcdef0" || got["Size"] != "3" {
		t.Errorf("%v", got)
	}
	out, err := w.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("s")})
	if err != nil || *out.Stacks[0].Parameters[0].ResolvedValue != "ami-0123456789abcdef0" || *out.Stacks[0].Parameters[1].ParameterValue != "****" {
		t.Errorf("%+v, %v", out, err)
	}
	// A new image is an update although the template and its parameters are the same.
	w.ssm["/ami"] = "ami-1123456789abcdef0"
	want(t, w.update("s", body), updateComplete)
	summary, err := w.GetTemplateSummary(t.Context(), &cloudformation.GetTemplateSummaryInput{StackName: aws.String("s")})
	if err != nil || len(summary.Parameters) != 2 || !slices.Equal(summary.ResourceTypes, []string{"Test::Thing"}) {
		t.Errorf("%+v, %v", summary, err)
	}
	if got, err := w.GetTemplate(t.Context(), &cloudformation.GetTemplateInput{StackName: aws.String("s")}); err != nil || *got.TemplateBody != body {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = w.ValidateTemplate(t.Context(), &cloudformation.ValidateTemplateInput{TemplateBody: aws.String("Resources: {A: {Type: X}}")})
	refused(t, err, "ValidationError", "Unrecognized resource types: [X]")
}

func TestListsComeInPages(t *testing.T) {
	w := newWorld(t)
	st := w.create("s", "Resources: {A: {Type: Test::Thing}}")
	want(t, st, createComplete)
	if err := w.stacks.edit(st.ID, func(st *stack) error {
		for len(st.Events) < 250 {
			st.tell(time.Now(), "A", st.Resources["A"].Now, updateComplete, "")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	pages, sizes := cloudformation.NewDescribeStackEventsPaginator(w.Client, &cloudformation.DescribeStackEventsInput{StackName: aws.String("s")}), []int{}
	for pages.HasMorePages() {
		out, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(out.StackEvents))
	}
	if !slices.Equal(sizes, []int{100, 100, 50}) {
		t.Errorf("pages of %v events", sizes)
	}
	_, err := w.ListStacks(t.Context(), &cloudformation.ListStacksInput{NextToken: aws.String("nonsense")})
	refused(t, err, "ValidationError", "NextToken")
}

func TestTheNewestEventsAreKept(t *testing.T) {
	st := &stack{Name: "s"}
	for n := range mostEvents + 2 {
		st.move(time.Now(), createInProgress, strconv.Itoa(n))
	}
	if len(st.Events) != mostEvents || st.Events[0].Reason != "2" {
		t.Errorf("%d events, the oldest is %s", len(st.Events), st.Events[0].Reason)
	}
}
