package cloudformation_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Moto knows neither CodeBuild's projects nor Fn::Cidr, and does not leave AWS::NoValue out of
// lists, so it gets templates without conditions. It removes no route tables, and so no network.
func TestMotoMakesTheStacksAndRemovesTheWorkers(t *testing.T) {
	client := moto(t)
	network, err := newStack(load(t, "network.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	outputs := create(t, client, "network", network)
	if n := strings.Count(outputs["PrivateSubnetIds"], "subnet-"); n != 3 {
		t.Errorf("there are %d private subnets", n)
	}
	nodes := workers(t, with(map[string]string{
		"VpcId": outputs["VpcId"], "SubnetIds": outputs["PrivateSubnetIds"], "ClusterSecurityGroupId": "", "ControlPlaneCidr": "10.0.0.10/32", "MinSize": "0",
	}))
	outputs = create(t, client, "workers", nodes)
	for name, prefix := range map[string]string{
		"AutoScalingGroupName": "workers", "LaunchTemplateId": "lt-", "NodeSecurityGroupId": "sg-", "NodeRoleArn": "arn:aws:iam::123456789012:role/",
	} {
		if !strings.HasPrefix(outputs[name], prefix) {
			t.Errorf("%s is %q, want %s...", name, outputs[name], prefix)
		}
	}
	if _, err := client.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("workers")}); err != nil {
		t.Errorf("delete the workers: %v", err)
	}
	left, err := client.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{})
	if err != nil || len(left.Stacks) != 1 {
		t.Errorf("%d stacks are left, want the network, %v", len(left.Stacks), err)
	}
}

// create makes a stack and returns its outputs.
func create(t *testing.T, client *cloudformation.Client, name string, s stack) map[string]string {
	t.Helper()
	body, err := json.Marshal(s.unconditional())
	if err != nil {
		t.Fatal(err)
	}
	in := &cloudformation.CreateStackInput{StackName: &name, TemplateBody: aws.String(string(body)), Capabilities: []types.Capability{types.CapabilityCapabilityNamedIam}}
	for _, p := range s.template.Parameters {
		in.Parameters = append(in.Parameters, types.Parameter{ParameterKey: aws.String(p.Name), ParameterValue: aws.String(s.given(p.Name))})
	}
	if _, err := client.CreateStack(t.Context(), in); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	found, err := client.DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if found.Stacks[0].StackStatus != types.StackStatusCreateComplete {
		t.Fatalf("%s is %s", name, found.Stacks[0].StackStatus)
	}
	outputs := map[string]string{}
	for _, o := range found.Stacks[0].Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	return outputs
}

// noValue is left out by whoever holds it.
type noValue struct{}

// given is a parameter's value as CloudFormation takes it.
func (s stack) given(name string) string {
	if members, ok := s.scope.Parameters[name].([]any); ok {
		return strings.Join(words(members), ",")
	}
	return s.scope.Parameters[name].(string)
}

// unconditional is the template for its parameters, without conditions, rules and Fn::Cidr.
func (s stack) unconditional() map[string]any {
	parameters, resources, outputs := map[string]any{}, map[string]any{}, map[string]any{}
	for _, p := range s.template.Parameters {
		parameters[p.Name] = map[string]any{"Type": p.Type}
	}
	for _, name := range s.made() {
		r, _ := s.template.Resource(name)
		resources[name] = s.decided(r.Body)
		delete(resources[name].(map[string]any), "Condition")
	}
	for _, o := range s.template.Outputs {
		outputs[o.Name] = map[string]any{"Value": s.decided(o.Value)}
	}
	return map[string]any{"Parameters": parameters, "Resources": resources, "Outputs": outputs}
}

// decided is a value with the branches of Fn::If that the conditions choose.
func (s stack) decided(value any) any {
	switch v := value.(type) {
	case []any:
		out := []any{}
		for _, element := range v {
			if d := s.decided(element); d != (any)(noValue{}) {
				out = append(out, d)
			}
		}
		return out
	case map[string]any:
		if branches, ok := v["Fn::If"].([]any); ok {
			if s.condition(branches[0].(string)) {
				return s.decided(branches[1])
			}
			return s.decided(branches[2])
		}
		if _, ok := v["Fn::Cidr"]; ok {
			return s.resolve(v)
		}
		if v["Ref"] == "AWS::NoValue" {
			return noValue{}
		}
		out := map[string]any{}
		for key, element := range v {
			if d := s.decided(element); d != (any)(noValue{}) {
				out[key] = d
			}
		}
		return out
	}
	return value
}

// moto starts a moto_server and returns a client of its CloudFormation.
func moto(t *testing.T) *cloudformation.Client {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no moto_server")
		}
		t.Skip("there is no moto_server")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	host, port, _ := net.SplitHostPort(address)
	server := exec.Command(program, "-H", host, "-p", port)
	server.Stdout, server.Stderr = io.Discard, io.Discard
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		server.Process.Kill()
		<-ended
	})
	for ready := false; !ready; {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("moto_server: %v", err)
		case <-time.After(100 * time.Millisecond):
			if answer, err := http.Get("http://" + address + "/moto-api/data.json"); err == nil {
				answer.Body.Close()
				ready = true
			}
		}
	}
	return cloudformation.New(cloudformation.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://" + address), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}
