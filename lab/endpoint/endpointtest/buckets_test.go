package endpointtest_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cloudformationtypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

// buckets is S3 in path style, the only one that the lab has.
func buckets(c aws.Config) *s3.Client {
	return s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
}

func TestTheAWSCLICopiesListsAndRemoves(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no AWS CLI")
	}
	if testing.Short() {
		t.Skip("the AWS CLI takes seconds a call")
	}
	e := endpointtest.Start(t, endpointtest.Quiet())
	dir, content := t.TempDir(), make([]byte, 3<<20)
	_, _ = rand.Read(content)
	up, down := filepath.Join(dir, "up"), filepath.Join(dir, "down")
	if err := os.WriteFile(up, content, 0o600); err != nil {
		t.Fatal(err)
	}
	awsCLI(t, e, "s3", "mb", "s3://backups")
	awsCLI(t, e, "s3", "cp", up, "s3://backups/clusters/blue + green/a")
	if out := awsCLI(t, e, "s3", "ls", "--recursive", "s3://backups"); !strings.Contains(out, "3145728 clusters/blue + green/a") {
		t.Errorf("ls: %s", out)
	}
	awsCLI(t, e, "s3", "cp", "s3://backups/clusters/blue + green/a", down)
	if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	awsCLI(t, e, "s3", "rm", "--recursive", "s3://backups")
	if _, err := buckets(e.Config()).DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String("backups")}); err != nil {
		t.Error(err)
	}
}

const withBucket = `
Resources:
  Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: of-a-stack, VersioningConfiguration: {Status: Enabled}}}
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument: {Version: 2012-10-17, Statement: [{Effect: Deny, Principal: "*", Action: "s3:*", Resource: !Sub "${Bucket.Arn}/*"}]}
`

func TestABucketOfAStackIsRealAndStaysWhileItHasObjects(t *testing.T) {
	e := endpointtest.Start(t, endpointtest.Quiet())
	ctx, stacks, objects, name := t.Context(), cloudformation.NewFromConfig(e.Config()), buckets(e.Config()), aws.String("of-a-stack")
	// rest waits until nothing is under way for the stack.
	rest := func(id *string, want cloudformationtypes.StackStatus) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			out, err := stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: id})
			if err != nil {
				t.Fatal(err)
			}
			status := out.Stacks[0].StackStatus
			if status == want {
				return
			}
			if !strings.HasSuffix(string(status), "_IN_PROGRESS") || time.Now().After(deadline) {
				t.Fatalf("the stack is %s, want %s", status, want)
			}
		}
	}
	made, err := stacks.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("s"), TemplateBody: aws.String(withBucket)})
	if err != nil {
		t.Fatal(err)
	}
	rest(made.StackId, cloudformationtypes.StackStatusCreateComplete)
	if _, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: aws.String("k"), Body: strings.NewReader("v")}); err != nil {
		t.Fatal(err)
	}
	again, err := stacks.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("t"), TemplateBody: aws.String(withBucket), OnFailure: cloudformationtypes.OnFailureDelete})
	if err != nil {
		t.Fatal(err)
	}
	rest(again.StackId, cloudformationtypes.StackStatusDeleteComplete)
	if _, err := stacks.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: made.StackId}); err != nil {
		t.Fatal(err)
	}
	rest(made.StackId, cloudformationtypes.StackStatusDeleteFailed)
	events, err := stacks.DescribeStackResource(ctx, &cloudformation.DescribeStackResourceInput{StackName: made.StackId, LogicalResourceId: aws.String("Bucket")})
	if err != nil || !strings.Contains(aws.ToString(events.StackResourceDetail.ResourceStatusReason), "The bucket you tried to delete is not empty") {
		t.Errorf("%+v, %v", events, err)
	}
	if _, err := objects.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: name, Key: aws.String("k")}); err != nil {
		t.Fatal(err)
	}
	if _, err := stacks.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: made.StackId}); err != nil {
		t.Fatal(err)
	}
	rest(made.StackId, cloudformationtypes.StackStatusDeleteComplete)
	if all, err := objects.ListBuckets(ctx, nil); err != nil || len(all.Buckets) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
