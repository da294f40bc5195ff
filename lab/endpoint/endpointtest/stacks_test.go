package endpointtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

const stack = `
Parameters:
  Value: {Type: String, Default: one}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement: {Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}
      Policies:
        - PolicyName: read
          PolicyDocument:
            Version: '2012-10-17'
            Statement:
              - {Sid: Read, Effect: Allow, Action: "s3:GetObject", Resource: !Sub "${Bucket.Arn}/*"}
  Profile:
    Type: AWS::IAM::InstanceProfile
    Properties: {Roles: [!Ref Role]}
  More:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: more
      PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Deny, NotAction: "s3:*", Resource: "*"}]}
      Roles: [!Ref Role]
  Bucket:
    Type: AWS::S3::Bucket
    Properties: {VersioningConfiguration: {Status: Enabled}}
  Key:
    Type: AWS::KMS::Key
    Properties:
      KeyPolicy: {Version: 2012-10-17, Statement: [{Effect: Allow, Principal: {AWS: !Ref AWS::AccountId}, Action: "kms:*", Resource: "*"}]}
  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: !Sub "alias/${AWS::StackName}", TargetKeyId: !Ref Key}}
  Logs: {Type: AWS::Logs::LogGroup, Properties: {RetentionInDays: 30}}
  Balancer: {Type: "AWS::ElasticLoadBalancingV2::LoadBalancer", Properties: {Type: network, Subnets: [subnet-1]}}
  Targets: {Type: "AWS::ElasticLoadBalancingV2::TargetGroup", Properties: {Protocol: TCP, Port: 443, VpcId: vpc-1}}
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties: {LoadBalancerArn: !Ref Balancer, Protocol: TCP, Port: 443, DefaultActions: [{Type: forward, TargetGroupArn: !Ref Targets}]}
  Parameter:
    Type: AWS::SSM::Parameter
    Properties: {Name: !Sub "/${AWS::StackName}/value", Type: String, Value: !Ref Value, Tags: {team: x}}
Outputs:
  Role: {Value: !GetAtt Role.Arn}
  Profile: {Value: !GetAtt Profile.Arn}
  Host: {Value: !GetAtt Balancer.DNSName}
  Log: {Value: !GetAtt Logs.Arn}
`

// awsCLI runs the AWS CLI against the endpoint.
func awsCLI(t *testing.T, e *endpointtest.Endpoint, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "aws", args...)
	cmd.Env = append(os.Environ(), e.Env()...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("aws %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func TestTheAWSCLIDeploysChangesAndDeletesAStack(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no AWS CLI")
	}
	e := endpointtest.Start(t, endpointtest.Quiet())
	file := filepath.Join(t.TempDir(), "stack.yaml")
	if err := os.WriteFile(file, []byte(stack), 0o600); err != nil {
		t.Fatal(err)
	}
	deploy := []string{"cloudformation", "deploy", "--stack-name", "s", "--template-file", file, "--capabilities", "CAPABILITY_IAM"}
	awsCLI(t, e, append(deploy, "--tags", "team=x")...)
	out := awsCLI(t, e, append(deploy, "--parameter-overrides", "Value=two", "--tags", "team=x")...)
	if !strings.Contains(out, "Successfully created/updated stack - s") {
		t.Errorf("%s", out)
	}
	if got, err := ssm.NewFromConfig(e.Config()).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/s/value")}); err != nil || *got.Parameter.Value != "two" {
		t.Errorf("%+v, %v", got, err)
	}
	if out := awsCLI(t, e, append(deploy, "--no-fail-on-empty-changeset", "--tags", "team=x")...); !strings.Contains(out, "No changes to deploy") {
		t.Errorf("the same again: %s", out)
	}
	described, err := cloudformation.NewFromConfig(e.Config()).DescribeStackResource(t.Context(), &cloudformation.DescribeStackResourceInput{StackName: aws.String("s"), LogicalResourceId: aws.String("Role")})
	if err != nil {
		t.Fatal(err)
	}
	role := *described.StackResourceDetail.PhysicalResourceId
	var got struct {
		Role struct {
			Arn                      string
			AssumeRolePolicyDocument map[string]any
		}
	}
	if err := json.Unmarshal([]byte(awsCLI(t, e, "iam", "get-role", "--role-name", role)), &got); err != nil || !strings.HasSuffix(got.Role.Arn, ":role/"+role) || got.Role.AssumeRolePolicyDocument["Version"] != "2012-10-17" {
		t.Errorf("%+v, %v", got, err)
	}
	if out := awsCLI(t, e, "iam", "list-role-policies", "--role-name", role, "--output", "text"); !strings.Contains(out, "read") || !strings.Contains(out, "more") {
		t.Errorf("inline policies: %s", out)
	}
	awsCLI(t, e, "cloudformation", "delete-stack", "--stack-name", "s")
	awsCLI(t, e, "cloudformation", "wait", "stack-delete-complete", "--stack-name", "s")
	if out := awsCLI(t, e, "iam", "list-roles", "--query", "Roles[].RoleName", "--output", "text"); strings.TrimSpace(out) != "node" {
		t.Errorf("roles are left: %s", out)
	}
}
