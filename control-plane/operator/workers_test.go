package operator_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

const workersStack = "arn:aws:cloudformation:us-west-2:111122223333:stack/demo-workers/1"

// formation is CloudFormation with one stack, as far as its wire goes: each execution or
// deletion has the events that the test gives it.
type formation struct {
	mu         sync.Mutex
	status     string // of the stack; "" if there is none
	parameters map[string]string
	unchanged  bool
	then       []string // events such as "Workers AWS::AutoScaling::AutoScalingGroup CREATE_COMPLETE reason"
	events     []string
	calls      []string
	proposed   url.Values
	onEvents   func(n int) // is told how often events were asked for
	looks      int
}

func (f *formation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	body := ""
	switch action {
	case "DescribeStacks":
		if f.status == "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Stack with id demo-workers does not exist</Message></Error></ErrorResponse>`)
			return
		}
		body = fmt.Sprintf(`<Stacks><member><StackName>demo-workers</StackName><StackId>%s</StackId><StackStatus>%s</StackStatus><CreationTime>2026-03-01T12:00:00Z</CreationTime><Parameters>%s</Parameters></member></Stacks>`,
			workersStack, f.status, members(f.parameters))
	case "CreateChangeSet":
		f.proposed = r.Form
		body = "<Id>set-1</Id><StackId>" + workersStack + "</StackId>"
	case "DescribeChangeSet":
		body = f.changeSet()
	case "ExecuteChangeSet", "DeleteStack":
		f.events = append(f.events, f.then...)
	case "DescribeStackEvents":
		f.looks++
		if f.onEvents != nil {
			f.onEvents(f.looks)
		}
		body = "<StackEvents>" + f.told() + "</StackEvents>"
	case "DescribeStackResources":
		body = `<StackResources>` + resource("NodeRole", "AWS::IAM::Role", "demo-workers-NodeRole-1") + resource("Workers", "AWS::AutoScaling::AutoScalingGroup", "demo-workers") + `</StackResources>`
	case "DescribeAutoScalingGroups":
		body = `<AutoScalingGroups><member><AutoScalingGroupName>demo-workers</AutoScalingGroupName><MinSize>2</MinSize><MaxSize>3</MaxSize><DesiredCapacity>2</DesiredCapacity>
			<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><Version>2</Version></LaunchTemplate><Instances>
			<member><InstanceId>i-old</InstanceId><InstanceType>t3.medium</InstanceType><AvailabilityZone>us-west-2a</AvailabilityZone><LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus>
			<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId><Version>1</Version></LaunchTemplate></member></Instances></member></AutoScalingGroups>`
	case "DescribeScalingActivities":
		body = "<Activities/>"
	case "DescribeInstances":
		fmt.Fprint(w, `<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-new</instanceId><launchTime>2026-03-01T13:00:00Z</launchTime><instanceState><name>running</name></instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>`)
		return
	case "GetConsoleOutput": // ovenbird-agent: [   9.0] kubelet failed (try 4): no configuration
		fmt.Fprint(w, `<GetConsoleOutputResponse><output>b3ZlbmJpcmQtYWdlbnQ6IFsgICA5LjBdIGt1YmVsZXQgZmFpbGVkICh0cnkgNCk6IG5vIGNvbmZpZ3VyYXRpb24K</output></GetConsoleOutputResponse>`)
		return
	}
	f.calls = append(f.calls, action)
	fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", action, body)
}

func (f *formation) changeSet() string {
	if f.unchanged {
		return `<Status>FAILED</Status><StatusReason>The submitted information didn't contain changes. Submit different information to create a change set.</StatusReason>`
	}
	after := map[string]string{}
	for i := 1; f.proposed.Has(fmt.Sprintf("Parameters.member.%d.ParameterKey", i)); i++ {
		at := fmt.Sprintf("Parameters.member.%d.", i)
		name := f.proposed.Get(at + "ParameterKey")
		after[name] = f.proposed.Get(at + "ParameterValue")
		if f.proposed.Get(at+"UsePreviousValue") == "true" {
			after[name] = f.parameters[name]
		}
	}
	return `<Status>CREATE_COMPLETE</Status><Changes><member><Type>Resource</Type><ResourceChange><Action>Add</Action><LogicalResourceId>Workers</LogicalResourceId><ResourceType>AWS::AutoScaling::AutoScalingGroup</ResourceType></ResourceChange></member></Changes><Parameters>` +
		members(after) + `</Parameters>`
}

// told are the events, newest first.
func (f *formation) told() string {
	var list []string
	for i, line := range f.events {
		part := append(strings.SplitN(line, " ", 4), "")
		physical := "demo-workers-" + part[0] + "-1"
		if part[1] == "AWS::CloudFormation::Stack" {
			physical = workersStack
		}
		list = append(list, fmt.Sprintf(`<member><EventId>e%d</EventId><StackId>%s</StackId><StackName>demo-workers</StackName><LogicalResourceId>%s</LogicalResourceId><PhysicalResourceId>%s</PhysicalResourceId><ResourceType>%s</ResourceType><ResourceStatus>%s</ResourceStatus><ResourceStatusReason>%s</ResourceStatusReason><Timestamp>2026-03-01T12:00:%02dZ</Timestamp></member>`,
			i, workersStack, part[0], physical, part[1], part[2], part[3], i))
	}
	slices.Reverse(list)
	return strings.Join(list, "")
}

func members(parameters map[string]string) string {
	var list strings.Builder
	for name, value := range parameters {
		list.WriteString("<member><ParameterKey>" + name + "</ParameterKey><ParameterValue>")
		_ = xml.EscapeText(&list, []byte(value))
		list.WriteString("</ParameterValue></member>")
	}
	return list.String()
}

func resource(logical, kind, physical string) string {
	return "<member><LogicalResourceId>" + logical + "</LogicalResourceId><PhysicalResourceId>" + physical + "</PhysicalResourceId><ResourceType>" + kind + "</ResourceType><ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>"
}

const (
	stackBegins = "demo-workers AWS::CloudFormation::Stack CREATE_IN_PROGRESS User Initiated"
	updateBegan = "demo-workers AWS::CloudFormation::Stack UPDATE_IN_PROGRESS User Initiated"
	roleIsMade  = "NodeRole AWS::IAM::Role CREATE_COMPLETE"
	stackIsMade = "demo-workers AWS::CloudFormation::Stack CREATE_COMPLETE"
	didNotJoin  = "Workers AWS::AutoScaling::AutoScalingGroup UPDATE_FAILED Received 0 SUCCESS signal(s) out of 1"
	rolledBack  = "demo-workers AWS::CloudFormation::Stack UPDATE_ROLLBACK_COMPLETE"
	stackIsGone = "demo-workers AWS::CloudFormation::Stack DELETE_COMPLETE"
	deleteBegan = "demo-workers AWS::CloudFormation::Stack DELETE_IN_PROGRESS User Initiated"
	groupStays  = "NodeSecurityGroup AWS::EC2::SecurityGroup DELETE_FAILED resource sg-1 has a dependent object"
	stackStays  = "demo-workers AWS::CloudFormation::Stack DELETE_FAILED The following resource(s) failed to delete: [NodeSecurityGroup]."
)

// demoWorkers has the real service with the cluster demo, and a CloudFormation.
func demoWorkers(t *testing.T) *formation {
	t.Helper()
	r := service(t)
	createDemo(t)
	activate(t, r, t.TempDir())
	f := &formation{}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	for _, name := range []string{"CLOUDFORMATION", "AUTO_SCALING", "EC2"} {
		t.Setenv("AWS_ENDPOINT_URL_"+name, server.URL)
	}
	return f
}

func (f *formation) made() *formation {
	f.status, f.parameters = "CREATE_COMPLETE", map[string]string{"ClusterName": "demo", "ImageId": "ami-0123456789abcdef0", "ImageParameter": "", "MinSize": "2", "MaxSize": "4"}
	f.events = []string{stackBegins, stackIsMade}
	return f
}

func TestWorkersAreCreatedWithWhatTheClusterSays(t *testing.T) {
	f := demoWorkers(t)
	f.then = []string{stackBegins, roleIsMade, "Workers AWS::AutoScaling::AutoScalingGroup CREATE_COMPLETE", stackIsMade}
	stdout, stderr, err := ovenbird(t, "workers", "create", "demo", "--ami", "ami-0123456789abcdef0", "--nodes", "2", "--yes", "-o", "json")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	var result struct {
		Stack, Status string
		Changed       bool
		Changes       []struct{ Action, LogicalID string }
		Parameters    []struct{ Name, After string }
		Problems      []string
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || result.Status != "CREATE_COMPLETE" || !result.Changed || len(result.Changes) != 1 || len(result.Problems) > 0 {
		t.Errorf("printed %s: %v", stdout, err)
	}
	values := map[string]string{}
	for _, p := range result.Parameters {
		values[p.Name] = p.After
	}
	for name, want := range map[string]string{"ClusterName": "demo", "VpcId": "vpc-1", "SubnetIds": "subnet-a,subnet-b", "ImageId": "ami-0123456789abcdef0", "MinSize": "2", "MaxSize": "3", "ClusterType": "ovenbird"} {
		if values[name] != want {
			t.Errorf("%s is %q, want %q", name, values[name], want)
		}
	}
	for _, name := range []string{"ClusterEndpoint", "ClusterCertificateAuthority", "ClusterServiceCidr"} {
		if values[name] == "" {
			t.Errorf("%s is not filled in", name)
		}
	}
	for _, want := range []string{"ACTION", "AWS::AutoScaling::AutoScalingGroup", "PARAMETER", "NodeRole CREATE_COMPLETE, ", "stack demo-workers CREATE_COMPLETE, "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("there was no %q in\n%s", want, stderr)
		}
	}
	if entries := must(t, "access-entry", "list", "demo"); !strings.Contains(entries, "arn:aws:iam::111122223333:role/demo-workers-NodeRole-1") || !strings.Contains(entries, "EC2_LINUX") {
		t.Errorf("the role of nodes is not let in:\n%s", entries)
	}
}

func TestWorkersCommandsThatChangeNothing(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {colour: red}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := "--ami=ami-0123456789abcdef0"
	for name, test := range map[string]struct {
		there bool // the stack
		as    string
		args  string
		err   string
		usage bool
	}{
		"create without a terminal":           {args: "create demo " + image, err: "there is no terminal to ask on: say --yes", usage: true},
		"delete without a terminal":           {there: true, args: "delete demo", err: "say --yes", usage: true},
		"create without an image":             {args: "create demo --yes", err: "want --ami ID or --ami-parameter NAME", usage: true},
		"create with a wrong parameter":       {args: "create demo --yes " + image + " --parameter Colour=red", err: "the template has no parameter Colour", usage: true},
		"update with a parameter of later":    {there: true, args: "update demo --yes --parameter Colour=red", err: "--refresh takes this release's template", usage: true},
		"create what is there":                {there: true, args: "create demo --yes " + image, err: "is CREATE_COMPLETE: change it with `ovenbird workers update demo demo-workers`"},
		"create what was rolled back":         {there: true, as: "ROLLBACK_COMPLETE", args: "create demo --yes " + image, err: "delete it first with `ovenbird workers delete demo demo-workers`"},
		"update what is not there":            {args: "update demo --yes --nodes 3", err: "make it with `ovenbird workers create demo demo-workers`"},
		"update what was rolled back":         {there: true, as: "ROLLBACK_COMPLETE", args: "update demo --yes --nodes 3", err: "can only be deleted"},
		"update what could not roll back":     {there: true, as: "UPDATE_ROLLBACK_FAILED", args: "update demo --yes --nodes 3", err: "`aws cloudformation continue-update-rollback --stack-name demo-workers`"},
		"update what is being updated":        {there: true, as: "UPDATE_IN_PROGRESS", args: "update demo --yes --nodes 3", err: "`ovenbird workers status demo demo-workers --follow`"},
		"status of what is not there":         {args: "status demo", err: "stack demo-workers: the stack does not exist"},
		"another cluster's":                   {there: true, args: "delete prod demo-workers --yes", err: "holds the workers of cluster demo"},
		"a NodeConfig that no node reads":     {args: "create demo --yes " + image + " --node-config " + bad, err: "colour"},
		"an empty script":                     {args: "create demo --yes " + image + " --script " + empty, err: "the file is empty"},
		"a cluster's name that fits no stack": {args: "status my_cluster", err: "give a NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			f := demoWorkers(t)
			if test.there {
				f.made()
			}
			if test.as != "" {
				f.status = test.as
			}
			stdout, _, err := ovenbird(t, append([]string{"workers"}, strings.Fields(test.args)...)...)
			if err == nil || !strings.Contains(err.Error(), test.err) || stdout != "" {
				t.Errorf("printed %q and ended with %v, want %s", stdout, err, test.err)
			}
			if cli.IsUsage(err) != test.usage {
				t.Errorf("wrong usage: %t, want %t", cli.IsUsage(err), test.usage)
			}
			for _, call := range []string{"ExecuteChangeSet", "DeleteStack"} {
				if slices.Contains(f.calls, call) {
					t.Errorf("%s was called", call)
				}
			}
		})
	}
}

func TestAnUpdateOfWorkersWithNothingToChangeIsDone(t *testing.T) {
	f := demoWorkers(t).made()
	f.unchanged = true
	stdout, stderr, err := ovenbird(t, "workers", "update", "demo", "--ami", "ami-0123456789abcdef0", "--yes")
	if err != nil || stdout != "there is nothing to change in stack demo-workers\n" || slices.Contains(f.calls, "ExecuteChangeSet") {
		t.Errorf("printed %q %q, %v, having called %q", stdout, stderr, err, f.calls)
	}
}

func TestAnUpdateOfWorkersThatRollsBackIsExplained(t *testing.T) {
	f := demoWorkers(t).made()
	f.then = []string{updateBegan, didNotJoin, rolledBack}
	stdout, _, err := ovenbird(t, "workers", "update", "demo", "--ami", "ami-0fedcba9876543210", "--yes")
	if err == nil || cli.IsUsage(err) || !strings.Contains(err.Error(), "stack demo-workers is UPDATE_ROLLBACK_COMPLETE: Workers UPDATE_FAILED: Received 0 SUCCESS signal(s) out of 1") {
		t.Errorf("ended with %v", err)
	}
	f.mu.Lock()
	f.status = "UPDATE_ROLLBACK_COMPLETE"
	f.mu.Unlock()
	status := must(t, "workers", "status", "demo")
	for _, want := range []string{"failed first", "i-new (running) did not signal success. Its agent said", "[   9.0] kubelet failed (try 4): no configuration"} {
		if !strings.Contains(stdout, want) || !strings.Contains(status, want) {
			t.Errorf("there is no %q in\n%s\nor in\n%s", want, stdout, status)
		}
	}
	for _, want := range []string{"1 of 2, at least 2, at most 3", "i-old", "1 (old)"} {
		if !strings.Contains(status, want) {
			t.Errorf("there is no %q in\n%s", want, status)
		}
	}
	if at := f.proposed.Get("UsePreviousTemplate"); at != "true" {
		t.Errorf("the update took another template: %q", at)
	}
}

func TestWorkersAreDeletedWithTheEntryOfTheirRole(t *testing.T) {
	f := demoWorkers(t).made()
	f.then = []string{deleteBegan, stackIsGone}
	role := "arn:aws:iam::111122223333:role/demo-workers-NodeRole-1"
	must(t, "access-entry", "create", "demo", "--principal-arn", role, "--type", "EC2_LINUX")
	stdout, stderr, err := ovenbird(t, "workers", "delete", "demo", "--yes")
	if err != nil || !strings.Contains(stdout, "DELETE_COMPLETE") || !strings.Contains(stderr, "Remove") {
		t.Errorf("printed %q %q, %v", stdout, stderr, err)
	}
	if entries := must(t, "access-entry", "list", "demo"); strings.Contains(entries, role) {
		t.Errorf("the role is still let in:\n%s", entries)
	}
}

func TestADeletionOfWorkersThatFailsSaysWhatWasInTheWay(t *testing.T) {
	f := demoWorkers(t).made()
	f.then = []string{deleteBegan, groupStays, stackStays}
	stdout, _, err := ovenbird(t, "workers", "delete", "demo", "--yes")
	want := "NodeSecurityGroup DELETE_FAILED: resource sg-1 has a dependent object"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(stdout, want) {
		t.Errorf("printed %q and ended with %v, want %s", stdout, err, want)
	}
}

func TestAnUpdateOfWorkersThatIsNotFollowedToItsEndGoesOn(t *testing.T) {
	f := demoWorkers(t).made()
	f.then = []string{updateBegan}
	_, _, err := ovenbird(t, "workers", "update", "demo", "--ami", "ami-0fedcba9876543210", "--yes", "--timeout", (50 * time.Millisecond).String())
	if err == nil || !strings.Contains(err.Error(), "goes on: follow it with `ovenbird workers status demo demo-workers --follow`") {
		t.Errorf("ended with %v", err)
	}
	// The end comes at the second look.
	f.mu.Lock()
	f.status, f.looks = "UPDATE_IN_PROGRESS", 0
	f.onEvents = func(n int) {
		if n == 2 {
			f.status, f.events = "UPDATE_COMPLETE", append(f.events, "demo-workers AWS::CloudFormation::Stack UPDATE_COMPLETE")
		}
	}
	f.mu.Unlock()
	stdout, stderr, err := ovenbird(t, "workers", "status", "demo", "--follow")
	if err != nil || !strings.Contains(stdout, "UPDATE_COMPLETE") || !strings.Contains(stderr, "stack demo-workers UPDATE_IN_PROGRESS: User Initiated") {
		t.Errorf("printed %q %q, %v", stdout, stderr, err)
	}
}
