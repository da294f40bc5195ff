package ec2_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ovenbird-dev/ovenbird/internal/uefivars"
	"github.com/ovenbird-dev/ovenbird/lab/endpoint/endpointtest"
)

const (
	home, away = "us-west-2", "eu-central-1"
	friend     = "444455556666"
	keyAway    = "arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0000-4000-8000-000000000000"
)

// account is the account's clients in two regions, of an endpoint that delays nothing.
type account struct {
	*endpointtest.Endpoint
	ec2, away *ec2.Client
}

func newAccount(t *testing.T, options ...endpointtest.Option) account {
	t.Helper()
	e := endpointtest.Start(t, append([]endpointtest.Option{endpointtest.After(0, 0)}, options...)...)
	once := func(o *ec2.Options) { o.Retryer = aws.NopRetryer{} }
	return account{e, ec2.NewFromConfig(e.Config(), once), ec2.NewFromConfig(e.In(away), once)}
}

// snapshot makes a completed snapshot.
func (a account) snapshot(t *testing.T, change ...func(*ebs.StartSnapshotInput)) string {
	t.Helper()
	client, in := ebs.NewFromConfig(a.Config()), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(2)}
	for _, c := range change {
		c(in)
	}
	out, err := client.StartSnapshot(t.Context(), in)
	if err == nil {
		_, err = client.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: out.SnapshotId, ChangedBlocksCount: aws.Int32(0)})
	}
	if err != nil {
		t.Fatal(err)
	}
	a.completed(t, *out.SnapshotId)
	return *out.SnapshotId
}

// completed waits until a snapshot is.
func (a account) completed(t *testing.T, id string) {
	t.Helper()
	err := ec2.NewSnapshotCompletedWaiter(a.ec2).Wait(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, time.Minute,
		func(o *ec2.SnapshotCompletedWaiterOptions) { o.MinDelay, o.MaxDelay = time.Millisecond, time.Second })
	if err != nil {
		t.Fatal(err)
	}
}

func order(name, snapshot string, change ...func(*ec2.RegisterImageInput)) *ec2.RegisterImageInput {
	in := &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValuesX8664, BootMode: types.BootModeValuesUefi, VirtualizationType: aws.String("hvm"),
		EnaSupport: aws.Bool(true), RootDeviceName: aws.String("/dev/xvda"), BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot, VolumeType: types.VolumeTypeGp3},
		}},
	}
	for _, c := range change {
		c(in)
	}
	return in
}

func (a account) register(t *testing.T, name, snapshot string, change ...func(*ec2.RegisterImageInput)) string {
	t.Helper()
	out, err := a.ec2.RegisterImage(t.Context(), order(name, snapshot, change...))
	if err != nil {
		t.Fatal(err)
	}
	return *out.ImageId
}

func image(t *testing.T, client *ec2.Client, id string) types.Image {
	t.Helper()
	out, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Images[0]
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("%s: %s (%v), want %s", what, got, err, want)
	}
}

func TestAnImageIsDescribedAsItWasRegistered(t *testing.T) {
	a := newAccount(t)
	snapshot := a.snapshot(t)
	uefiData, err := uefivars.Encode([]uefivars.Variable{{Name: "db", Data: []byte("certificate")}})
	if err != nil {
		t.Fatal(err)
	}
	id := a.register(t, "node (1.37) [x86_64]", snapshot, func(in *ec2.RegisterImageInput) {
		in.TpmSupport, in.ImdsSupport, in.UefiData = types.TpmSupportValuesV20, types.ImdsSupportValuesV20, &uefiData
		in.Description, in.BlockDeviceMappings[0].Ebs.VolumeSize = aws.String("a node"), aws.Int32(8)
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{{Key: aws.String("content"), Value: aws.String("abc")}}}}
	})
	got := image(t, a.ec2, id)
	ebs := got.BlockDeviceMappings[0].Ebs
	said := fmt.Sprint(*got.Name, *got.Description, got.State, got.Architecture, got.BootMode, got.TpmSupport, got.ImdsSupport, *got.EnaSupport, *got.Public,
		*got.RootDeviceName, got.RootDeviceType, got.VirtualizationType, *got.OwnerId, *got.Tags[0].Key, *got.Tags[0].Value,
		*ebs.SnapshotId == snapshot, *ebs.VolumeSize, ebs.VolumeType, *ebs.Iops, *ebs.Throughput, *ebs.Encrypted, *ebs.DeleteOnTermination)
	if want := fmt.Sprint("node (1.37) [x86_64]", "a node", "available", "x86_64", "uefi", "v2.0", "v2.0", true, false,
		"/dev/xvda", "ebs", "hvm", a.Account, "content", "abc", true, 8, "gp3", 3000, 125, false, true); said != want {
		t.Errorf("described as\n%s, want\n%s", said, want)
	}
	data, err := a.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: "uefiData"})
	if err != nil || *data.UefiData.Value != uefiData {
		t.Errorf("UEFI data: %v, %v", data, err)
	}
	for _, tt := range []struct {
		name, value string
		found       int
	}{{"name", "node*", 1}, {"name", "other", 0}, {"state", "available", 1}, {"tag:content", "abc", 1}, {"tag:content", "x", 0}, {"block-device-mapping.snapshot-id", snapshot, 1}} {
		out, err := a.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
			Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String(tt.name), Values: []string{tt.value}}},
		})
		if err != nil || len(out.Images) != tt.found {
			t.Errorf("filter %s=%s: %v", tt.name, tt.value, err)
		}
	}
	if out, err := a.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}}); err != nil || len(out.Images) != 0 {
		t.Errorf("images of others: %v", err)
	}
}

func TestImagesThatCannotBootAreNotRegistered(t *testing.T) {
	a := newAccount(t)
	snapshot := a.snapshot(t)
	a.register(t, "taken", snapshot)
	for _, tt := range []struct {
		name, want string
		in         *ec2.RegisterImageInput
	}{
		{"a short name", "InvalidAMIName.Malformed", order("ab", snapshot)},
		{"a name with a plus", "InvalidAMIName.Malformed", order("a+b", snapshot)},
		{"a name in use", "InvalidAMIName.Duplicate", order("taken", snapshot)},
		{"a missing snapshot", "InvalidSnapshot.NotFound", order("one", "snap-00000000")},
		{"a malformed snapshot", "InvalidSnapshotID.Malformed", order("one", "snapshot")},
		{"another root device", "InvalidBlockDeviceMapping", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.RootDeviceName = nil })},
		{"a smaller volume", "InvalidBlockDeviceMapping", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.VolumeSize = aws.Int32(1) })},
		{"a slow gp3 volume", "InvalidParameterValue", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.Iops = aws.Int32(100) })},
		{"paravirtual", "InvalidParameterCombination", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.VirtualizationType = nil })},
		{"a TPM without UEFI", "InvalidParameterCombination", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.BootMode, in.TpmSupport = "", types.TpmSupportValuesV20 })},
		{"UEFI data that is none", "InvalidParameterValue", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.UefiData = aws.String("AAAA") })},
		{"UEFI data with a wrong checksum", "InvalidParameterValue", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.UefiData = aws.String("QU1aTlVFRkkAAAAB") })},
		{"tags for an instance", "InvalidParameterValue", order("one", snapshot, func(in *ec2.RegisterImageInput) {
			in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}}
		})},
		{"a dry run", "DryRunOperation", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.DryRun = aws.Bool(true) })},
		{"what the lab does not know", "UnknownParameter", order("one", snapshot, func(in *ec2.RegisterImageInput) { in.SriovNetSupport = aws.String("simple") })},
	} {
		_, err := a.ec2.RegisterImage(t.Context(), tt.in)
		expect(t, tt.name, err, tt.want)
	}
}

func TestACopyLivesInAnotherRegionAndBootsTheSameDisk(t *testing.T) {
	a := newAccount(t)
	source := a.register(t, "image", a.snapshot(t))
	if _, err := a.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{source}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}}); err != nil {
		t.Fatal(err)
	}
	in := func(change ...func(*ec2.CopyImageInput)) *ec2.CopyImageInput {
		in := &ec2.CopyImageInput{
			Name: aws.String("image"), SourceImageId: &source, SourceRegion: aws.String(home), ClientToken: aws.String("token"),
			Encrypted: aws.Bool(true), KmsKeyId: aws.String(keyAway), CopyImageTags: aws.Bool(true), TagSpecifications: []types.TagSpecification{
				{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{{Key: aws.String("of"), Value: aws.String("copy")}}},
			},
		}
		for _, c := range change {
			c(in)
		}
		return in
	}
	first, err := a.away.CopyImage(t.Context(), in())
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.away.CopyImage(t.Context(), in())
	if err != nil || *again.ImageId != *first.ImageId {
		t.Errorf("the same request again: %v", err)
	}
	got := image(t, a.away, *first.ImageId)
	if *got.SourceImageId != source || *got.SourceImageRegion != home || *got.Tags[0].Key != "a" || !*got.BlockDeviceMappings[0].Ebs.Encrypted {
		t.Errorf("the copy is %+v", got)
	}
	out, err := a.away.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*got.BlockDeviceMappings[0].Ebs.SnapshotId}})
	if err != nil {
		t.Fatal(err)
	}
	if s := out.Snapshots[0]; s.State != types.SnapshotStateCompleted || !*s.Encrypted || *s.KmsKeyId != keyAway || *s.Tags[0].Value != "copy" || *s.VolumeSize != 2 {
		t.Errorf("its snapshot is %+v", s)
	}
	_, err = a.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*first.ImageId}})
	expect(t, "the copy at home", err, "InvalidAMIID.NotFound")
	for _, tt := range []struct {
		name, want string
		change     func(*ec2.CopyImageInput)
	}{
		{"the token for another request", "IdempotentParameterMismatch", func(in *ec2.CopyImageInput) { in.Name = aws.String("other") }},
		{"the name again", "InvalidAMIName.Duplicate", func(in *ec2.CopyImageInput) { in.ClientToken = nil }},
		{"a key of the source's region", "InvalidParameterValue", func(in *ec2.CopyImageInput) { in.KmsKeyId = aws.String(strings.Replace(keyAway, away, home, 1)) }},
		{"a key without encryption", "InvalidParameterDependency", func(in *ec2.CopyImageInput) { in.Encrypted = nil }},
		{"a region that is not there", "InvalidParameterValue", func(in *ec2.CopyImageInput) { in.SourceRegion = aws.String("mars-1") }},
		{"an image that is not there", "InvalidAMIID.NotFound", func(in *ec2.CopyImageInput) {
			in.SourceImageId, in.ClientToken = aws.String("ami-00000000"), nil
		}},
	} {
		_, err := a.away.CopyImage(t.Context(), in(tt.change))
		expect(t, tt.name, err, tt.want)
	}
	// The source's end is not the copy's.
	if _, err := a.ec2.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: &source, DeleteAssociatedSnapshots: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if back, err := a.ec2.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("back"), SourceImageId: first.ImageId, SourceRegion: aws.String(away)}); err != nil {
		t.Error(err)
	} else if path, _, err := a.Catalog.Disk(*back.ImageId); err != nil {
		t.Errorf("the copy's copy boots %s: %v", path, err)
	}
}

func TestASnapshotIsCopiedWithPermissionOfItsRegion(t *testing.T) {
	a := newAccount(t)
	source := a.snapshot(t)
	out, err := a.away.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceSnapshotId: &source, SourceRegion: aws.String(home), Description: aws.String("copy")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ec2.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: &source}); err != nil {
		t.Fatal(err)
	}
	got, err := a.away.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{{Name: aws.String("status"), Values: []string{"completed"}}}})
	if err != nil || len(got.Snapshots) != 1 || *got.Snapshots[0].SnapshotId != *out.SnapshotId {
		t.Errorf("%v, %v", got, err)
	}
	_, err = a.away.CopySnapshot(t.Context(), &ec2.CopySnapshotInput{SourceSnapshotId: &source, SourceRegion: aws.String(home)})
	expect(t, "a copy of what is gone", err, "InvalidSnapshot.NotFound")
}

func TestAnImageIsPendingAtFirstAndCanBeUsedOnlyThen(t *testing.T) {
	var c endpointtest.Clock
	a := newAccount(t, endpointtest.After(0, time.Minute), endpointtest.By(&c))
	volumes := ebs.NewFromConfig(a.Config())
	started, err := volumes.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := volumes.CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{SnapshotId: started.SnapshotId, ChangedBlocksCount: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	_, err = a.ec2.RegisterImage(t.Context(), order("image", *started.SnapshotId))
	expect(t, "an image of a pending snapshot", err, "IncorrectState")
	c.Advance(time.Minute)
	a.completed(t, *started.SnapshotId)
	id := a.register(t, "image", *started.SnapshotId)
	if got := image(t, a.ec2, id); got.State != types.ImageStatePending {
		t.Errorf("the image is %s at once", got.State)
	}
	_, err = a.away.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("copy"), SourceImageId: &id, SourceRegion: aws.String(home)})
	expect(t, "a copy", err, "InvalidAMIID.Unavailable")
	c.Advance(time.Minute)
	if got := image(t, a.ec2, id); got.State != types.ImageStateAvailable {
		t.Errorf("the image is %s after its time", got.State)
	}
	out, err := a.away.CopyImage(t.Context(), &ec2.CopyImageInput{Name: aws.String("copy"), SourceImageId: &id, SourceRegion: aws.String(home)})
	if err != nil {
		t.Fatal(err)
	}
	if got := image(t, a.away, *out.ImageId).BlockDeviceMappings[0].Ebs; got.SnapshotId != nil {
		t.Errorf("the volume of a copy in the making is %+v, want no snapshot in it", got)
	}
	c.Advance(time.Minute)
	if got := image(t, a.away, *out.ImageId).BlockDeviceMappings[0].Ebs; got.SnapshotId == nil {
		t.Error("the copy names no snapshot")
	}
}

func TestTagsAreSetAndRemoved(t *testing.T) {
	a := newAccount(t)
	id := a.snapshot(t)
	tags := func(pairs ...string) (list []types.Tag) {
		for _, pair := range pairs {
			key, value, given := strings.Cut(pair, "=")
			tag := types.Tag{Key: &key}
			if given {
				tag.Value = &value
			}
			list = append(list, tag)
		}
		return list
	}
	if _, err := a.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags("a=1", "b=2", "c=3")}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ec2.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{id}, Tags: tags("a", "b=other")}); err != nil {
		t.Fatal(err)
	}
	out, err := a.ec2.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}}})
	var left []string
	for _, tag := range out.Tags {
		left = append(left, *tag.Key+"="+*tag.Value)
	}
	if err != nil || !slices.Equal(left, []string{"b=2", "c=3"}) {
		t.Errorf("tags %v, %v", left, err)
	}
	_, err = a.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{"snap-00000000"}, Tags: tags("a=1")})
	expect(t, "tags of nothing", err, "InvalidSnapshot.NotFound")
	_, err = a.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: tags("aws:a=1")})
	expect(t, "a tag of AWS's own", err, "InvalidParameterValue")
}

func TestTheRecordOutlivesTheLab(t *testing.T) {
	dir := t.TempDir()
	var id, snapshot string
	t.Run("before", func(t *testing.T) {
		a := newAccount(t, endpointtest.In(dir))
		snapshot = a.snapshot(t)
		id = a.register(t, "image", snapshot)
	})
	a := newAccount(t, endpointtest.In(dir))
	if got := image(t, a.ec2, id); *got.BlockDeviceMappings[0].Ebs.SnapshotId != snapshot {
		t.Errorf("the image is %+v", got)
	}
	if _, _, err := a.Catalog.Disk(id); err != nil {
		t.Error(err)
	}
}

func TestTheAccountHasThreeRegions(t *testing.T) {
	a := newAccount(t)
	out, err := a.away.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{})
	if err != nil || len(out.Regions) != 3 {
		t.Errorf("%v, %v", out, err)
	}
	if out, err := a.away.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{}); err != nil || len(out.Subnets) != 0 {
		t.Errorf("subnets elsewhere: %v, %v", out, err)
	}
	mars := ec2.NewFromConfig(a.In("mars-1"), func(o *ec2.Options) { o.Retryer = aws.NopRetryer{} })
	_, err = mars.DescribeImages(t.Context(), &ec2.DescribeImagesInput{})
	expect(t, "a region that is not there", err, "AuthFailure")
	if by, err := a.ec2.GetEbsEncryptionByDefault(t.Context(), &ec2.GetEbsEncryptionByDefaultInput{}); err != nil || *by.EbsEncryptionByDefault {
		t.Errorf("encryption by default: %v", err)
	}
}
