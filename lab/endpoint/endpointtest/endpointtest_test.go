package endpointtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
)

// block is the nth of a test's blocks.
func block(n byte) []byte { return bytes.Repeat([]byte{n}, 512<<10) }

func sum(data []byte) *string {
	s := sha256.Sum256(data)
	return aws.String(base64.StdEncoding.EncodeToString(s[:]))
}

func put(ctx context.Context, client *ebs.Client, snapshot *string, index int32, data []byte) error {
	_, err := client.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: snapshot, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
		Checksum: sum(data), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	return err
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// once fails at the first refusal.
func once(c aws.Config) aws.Config {
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return c
}

// holds tells whether a disk of 1 GiB has these blocks.
func holds(path string, blocks map[int64][]byte) error {
	disk, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	if info, err := disk.Stat(); err != nil || info.Size() != 1<<30 {
		return fmt.Errorf("%d bytes, %w", info.Size(), err)
	}
	for index, want := range blocks {
		got := make([]byte, len(want))
		if _, err := disk.ReadAt(got, index*int64(len(want))); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("block %d is another (%w)", index, err)
		}
	}
	return nil
}

func TestWhatIsUploadedBecomesAnImageThatInstancesStartFrom(t *testing.T) {
	var c endpointtest.Clock
	e := endpointtest.Start(t, endpointtest.After(time.Minute, time.Minute), endpointtest.By(&c))
	ctx, volumes, machines := t.Context(), ebs.NewFromConfig(once(e.Config())), ec2.NewFromConfig(e.Config())
	started, err := volumes.StartSnapshot(ctx, &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(1), Description: aws.String("a disk"), Tags: []ebstypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := started.SnapshotId
	if err := put(ctx, volumes, id, 0, block(1)); code(err) != "ResourceNotFoundException" {
		t.Errorf("a block right after the start: %v, want that the snapshot is not found yet", err)
	}
	c.Advance(time.Minute)
	if err := errors.Join(put(ctx, volumes, id, 0, block(1)), put(ctx, volumes, id, 2047, block(2))); err != nil {
		t.Fatal(err)
	}
	if _, err := volumes.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: id, ChangedBlocksCount: aws.Int32(2)}); err != nil {
		t.Fatal(err)
	}
	order := &ec2.RegisterImageInput{
		Name: aws.String("an image"), Architecture: types.ArchitectureValuesX8664, BootMode: types.BootModeValuesUefi,
		EnaSupport: aws.Bool(true), TpmSupport: types.TpmSupportValuesV20, ImdsSupport: types.ImdsSupportValuesV20,
		VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: id, VolumeType: types.VolumeTypeGp3},
		}},
	}
	if _, err := machines.RegisterImage(ctx, order); code(err) != "IncorrectState" {
		t.Errorf("an image of a pending snapshot: %v, want IncorrectState", err)
	}
	c.Advance(time.Minute)
	if err := ec2.NewSnapshotCompletedWaiter(machines, func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*id}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	image, err := machines.RegisterImage(ctx, order)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := machines.RegisterImage(ctx, order); code(err) != "InvalidAMIName.Duplicate" {
		t.Errorf("another image of the same name: %v", err)
	}
	c.Advance(time.Minute)
	if err := ec2.NewImageAvailableWaiter(machines, func(o *ec2.ImageAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }).Wait(ctx, &ec2.DescribeImagesInput{ImageIds: []string{*image.ImageId}}, time.Minute); err != nil {
		t.Fatal(err)
	}
	path, _, err := e.Catalog.Disk(*image.ImageId)
	if err != nil {
		t.Fatal(err)
	}
	if err := holds(path, map[int64][]byte{0: block(1), 1: block(0), 2047: block(2)}); err != nil {
		t.Errorf("the disk is not what was uploaded: %v", err)
	}
	if _, err := machines.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: id}); code(err) != "InvalidSnapshot.InUse" {
		t.Errorf("delete the snapshot of an image: %v", err)
	}
	if _, err := machines.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId, DeleteAssociatedSnapshots: aws.Bool(true)}); err != nil {
		t.Error(err)
	}
	if left := e.Left(); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	if puts := e.Puts(*id); puts[0] != 2 || puts[2047] != 1 {
		t.Errorf("puts counted: %v", puts)
	}
}

func TestFaultsComeOnDemandAndInTheServicesOwnWords(t *testing.T) {
	e := endpointtest.Start(t, endpointtest.After(0, 0))
	ctx, volumes, machines := t.Context(), ebs.NewFromConfig(once(e.Config())), ec2.NewFromConfig(once(e.Config()))
	start := func() error {
		_, err := volumes.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: aws.String("token")})
		return err
	}
	describe := func() error {
		_, err := machines.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{})
		return err
	}
	list := func() error {
		_, err := buckets(once(e.Config())).ListBuckets(ctx, nil)
		return err
	}
	tests := []struct {
		effect fault.Effect
		call   func() error
		action string
		want   string
	}{
		{fault.Throttle, start, "StartSnapshot", "RequestThrottledException"},
		{fault.Throttle, describe, "DescribeSnapshots", "RequestLimitExceeded"},
		{fault.Deny, start, "StartSnapshot", "AccessDeniedException"},
		{fault.Deny, describe, "DescribeSnapshots", "UnauthorizedOperation"},
		{fault.Exhaust, start, "StartSnapshot", "ServiceQuotaExceededException"},
		{fault.Exhaust, describe, "DescribeSnapshots", "ResourceCountExceeded"},
		{fault.Fail, start, "StartSnapshot", "InternalServerException"},
		{fault.Fail, describe, "DescribeSnapshots", "InternalError"},
		{fault.Throttle, list, "ListBuckets", "SlowDown"},
		{fault.Deny, list, "ListBuckets", "AccessDenied"},
		{fault.Exhaust, list, "ListBuckets", "TooManyBuckets"},
		{fault.Fail, list, "ListBuckets", "InternalError"},
	}
	for _, tt := range tests {
		e.Fail(t, fault.Fault{Action: tt.action, Effect: tt.effect, Count: 1})
		if err := tt.call(); code(err) != tt.want {
			t.Errorf("%s %s: %v, want %s", tt.effect, tt.action, err, tt.want)
		}
		if err := tt.call(); err != nil {
			t.Errorf("after %s %s: %v", tt.effect, tt.action, err)
		}
	}
	if n := e.Calls("StartSnapshot"); n != 8 {
		t.Errorf("%d calls of StartSnapshot counted, want 8", n)
	}
	e.Fail(t, fault.Fault{Action: "DeleteSnapshot", Effect: fault.Lose, Count: 1})
	id := e.Left()[0]
	if _, err := machines.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id}); err == nil || code(err) != "" {
		t.Errorf("an answer that was lost: %v, want no answer", err)
	}
	if left := e.Left(); len(left) > 0 {
		t.Errorf("the call whose answer was lost had no effect: %v", left)
	}
}

func TestARoleMayPublishNothing(t *testing.T) {
	e := endpointtest.Start(t)
	if _, err := ebs.NewFromConfig(e.AsRole()).StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}); code(err) != "AccessDeniedException" {
		t.Errorf("StartSnapshot: %v", err)
	}
	if _, err := ec2.NewFromConfig(e.AsRole()).DescribeImages(t.Context(), &ec2.DescribeImagesInput{}); code(err) != "UnauthorizedOperation" {
		t.Errorf("DescribeImages: %v", err)
	}
}

// cli runs the AWS CLI with nothing but the endpoint's environment.
func cli(t *testing.T, e *endpointtest.Endpoint, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "aws", args...)
	cmd.Env = append(os.Environ(), e.Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("aws %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestTheAWSCLIPublishes(t *testing.T) {
	if _, err := exec.LookPath("aws"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have the AWS CLI")
		}
		t.Skip("the AWS CLI is not installed: pip install awscli")
	}
	if testing.Short() {
		t.Skip("the AWS CLI takes seconds a call")
	}
	e := endpointtest.Start(t, endpointtest.After(0, 0))
	ctx, volumes := t.Context(), ebs.NewFromConfig(e.Config())
	file := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(file, block(1), 0o600); err != nil {
		t.Fatal(err)
	}
	started, err := volumes.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	id := *started.SnapshotId
	cli(t, e, "ebs", "put-snapshot-block", "--snapshot-id", id, "--block-index", "3", "--block-data", file,
		"--data-length", "524288", "--checksum", *sum(block(1)), "--checksum-algorithm", "SHA256")
	if _, err := volumes.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	if err := ec2.NewSnapshotCompletedWaiter(ec2.NewFromConfig(e.Config())).Wait(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, time.Minute,
		func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second }); err != nil {
		t.Fatal(err)
	}
	copied := cli(t, e, "--region", "eu-central-1", "ec2", "copy-snapshot", "--source-region", e.Regions[0], "--source-snapshot-id", id, "--query", "SnapshotId", "--output", "text")
	if _, ok := e.Catalog.Snapshot("eu-central-1", copied); !ok {
		t.Errorf("there is no copy %s", copied)
	}
	cli(t, e, "ssm", "put-parameter", "--name", "/a/b", "--type", "String", "--value", "c")
	if n := e.Calls("PutParameter"); n != 1 {
		t.Errorf("%d parameters were put", n)
	}
}
