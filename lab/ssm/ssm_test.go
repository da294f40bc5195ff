package ssm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

func client(e *endpointtest.Endpoint, region string) *ssm.Client {
	return ssm.NewFromConfig(e.In(region), func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func parameter(value string, change ...func(*ssm.PutParameterInput)) *ssm.PutParameterInput {
	in := &ssm.PutParameterInput{Name: aws.String("/ovenbird/stable"), Value: &value, Type: types.ParameterTypeString}
	for _, c := range change {
		c(in)
	}
	return in
}

func overwrite(in *ssm.PutParameterInput) { in.Overwrite = aws.Bool(true) }
func ofImage(in *ssm.PutParameterInput)   { in.DataType = aws.String("aws:ec2:image") }

func TestAParameterHasVersionsAndTagsAndIsItsRegionsOwn(t *testing.T) {
	e := endpointtest.Start(t)
	ctx, c, name := t.Context(), client(e, "us-west-2"), aws.String("/ovenbird/stable")
	if out, err := c.PutParameter(ctx, parameter("one", func(in *ssm.PutParameterInput) { in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}} })); err != nil || out.Version != 1 {
		t.Fatal(out, err)
	}
	if _, err := c.PutParameter(ctx, parameter("two")); code(err) != "ParameterAlreadyExists" {
		t.Errorf("without overwrite: %v", err)
	}
	if out, err := c.PutParameter(ctx, parameter("two", overwrite)); err != nil || out.Version != 2 {
		t.Errorf("with overwrite: %v, %v", out, err)
	}
	got, err := c.GetParameter(ctx, &ssm.GetParameterInput{Name: name})
	if err != nil || *got.Parameter.Value != "two" || got.Parameter.Version != 2 || *got.Parameter.ARN != "arn:aws:ssm:us-west-2:111122223333:parameter/ovenbird/stable" {
		t.Errorf("%+v, %v", got, err)
	}
	many, err := c.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{*name, "/other"}})
	if err != nil || len(many.Parameters) != 1 || many.InvalidParameters[0] != "/other" {
		t.Errorf("%+v, %v", many, err)
	}
	if _, err := client(e, "us-east-1").GetParameter(ctx, &ssm.GetParameterInput{Name: name}); code(err) != "ParameterNotFound" {
		t.Errorf("in another region: %v", err)
	}
	if _, err := c.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: name, Tags: []types.Tag{{Key: aws.String("c"), Value: aws.String("d")}}}); err != nil {
		t.Error(err)
	}
	tags, err := c.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: name})
	if err != nil || len(tags.TagList) != 2 || *tags.TagList[1].Key != "c" {
		t.Errorf("%+v, %v", tags, err)
	}
	if _, err := c.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: name}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: name}); code(err) != "ParameterNotFound" {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestASecretIsShownToWhoeverAsksForItDecrypted(t *testing.T) {
	ctx, c := t.Context(), client(endpointtest.Start(t), "us-west-2")
	name := aws.String("/ovenbird/control-plane/backup-key")
	if _, err := c.PutParameter(ctx, &ssm.PutParameterInput{
		Name: name, Value: aws.String("AGE-SECRET-KEY-1"), Type: types.ParameterTypeSecureString, KeyId: aws.String("alias/ovenbird"),
	}); err != nil {
		t.Fatal(err)
	}
	for _, decrypt := range []bool{false, true} {
		out, err := c.GetParameter(ctx, &ssm.GetParameterInput{Name: name, WithDecryption: &decrypt})
		if err != nil || out.Parameter.Type != types.ParameterTypeSecureString || strings.Contains(*out.Parameter.Value, "AGE-SECRET-KEY-1") != decrypt {
			t.Errorf("decrypted %v: %+v, %v", decrypt, out, err)
		}
	}
}

func TestParametersThatSSMRefuses(t *testing.T) {
	c := client(endpointtest.Start(t), "us-west-2")
	for name, in := range map[string]*ssm.PutParameterInput{
		"a name of AWS's own":    parameter("x", func(in *ssm.PutParameterInput) { in.Name = aws.String("/aws/x") }),
		"a name with a space":    parameter("x", func(in *ssm.PutParameterInput) { in.Name = aws.String("a b") }),
		"no type":                parameter("x", func(in *ssm.PutParameterInput) { in.Type = "" }),
		"another data type":      parameter("x", func(in *ssm.PutParameterInput) { in.DataType = aws.String("aws:ec2:snapshot") }),
		"tags with an overwrite": parameter("x", overwrite, func(in *ssm.PutParameterInput) { in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}} }),
		"a key for no secret":    parameter("x", func(in *ssm.PutParameterInput) { in.KeyId = aws.String("alias/aws/ssm") }),
		"a secret of an image": parameter("ami-0123456789abcdef0", ofImage, func(in *ssm.PutParameterInput) {
			in.Type = types.ParameterTypeSecureString
		}),
	} {
		if _, err := c.PutParameter(t.Context(), in); code(err) != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// await reads a parameter until it has the value, and fails when that does not happen.
func await(t *testing.T, c *ssm.Client, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		out, err := c.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/ovenbird/stable")})
		if err == nil && *out.Parameter.Value == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the parameter is %+v, %v; want %s", out, err, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAParameterOfAnImageIsWrittenOnlyIfTheImageExistsWhichNobodyIsTold(t *testing.T) {
	e := endpointtest.Start(t, endpointtest.After(0, 30*time.Millisecond))
	c, id := client(e, "us-west-2"), register(t, e)
	put := func(value string) {
		t.Helper()
		if _, err := c.PutParameter(t.Context(), parameter(value, ofImage, overwrite)); err != nil {
			t.Fatalf("PutParameter is to succeed whatever the value: %v", err)
		}
	}
	put(id)
	await(t, c, id)
	put("ami-00000000")
	put("nonsense")
	later := register(t, e)
	put(later)
	await(t, c, later) // and never what was refused before it
	if out, err := c.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/ovenbird/stable")}); err != nil || *out.Parameter.DataType != "aws:ec2:image" {
		t.Errorf("%+v, %v", out, err)
	}
}

// register makes an available image.
func register(t *testing.T, e *endpointtest.Endpoint) string {
	t.Helper()
	volumes, machines := ebs.NewFromConfig(e.Config()), ec2.NewFromConfig(e.Config())
	started, err := volumes.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err == nil {
		_, err = volumes.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: started.SnapshotId, ChangedBlocksCount: aws.Int32(0)})
	}
	if err == nil {
		err = ec2.NewSnapshotCompletedWaiter(machines).Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*started.SnapshotId}}, time.Minute,
			func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second })
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := machines.RegisterImage(t.Context(), &ec2.RegisterImageInput{
		Name: aws.String("image of " + *started.SnapshotId), Architecture: ec2types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		RootDeviceName: aws.String("/dev/xvda"), BlockDeviceMappings: []ec2types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &ec2types.EbsBlockDevice{SnapshotId: started.SnapshotId},
		}},
	})
	if err == nil {
		err = ec2.NewImageAvailableWaiter(machines).Wait(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*image.ImageId}}, time.Minute,
			func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second })
	}
	if err != nil {
		t.Fatal(err)
	}
	return *image.ImageId
}
