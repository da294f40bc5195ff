package ec2

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
)

func hasTag(tags []types.Tag, key, value string) bool {
	return slices.ContainsFunc(tags, func(t types.Tag) bool { return *t.Key == key && *t.Value == value })
}

func TestASnapshotStaysOfAStacksVolume(t *testing.T) {
	l := newLab(t)
	h := l.resourceType(t, "Volume")
	r := request("one", map[string]any{
		"AvailabilityZone": "us-west-2b", "Size": "1", "Tags": []any{map[string]any{"Key": "Name", "Value": "data"}},
	})
	id := create(t, h, r)
	data := bytes.Repeat([]byte("data"), 1000)
	disk := l.fleet.VolumeDisk(id)
	if err := errors.Join(os.MkdirAll(filepath.Dir(disk), 0o700), os.WriteFile(disk, data, 0o600), os.Truncate(disk, 1<<30)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is the same step again
		if err := h.(resource.Snapshotter).Snapshot(t.Context(), id, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Delete(t.Context(), id, r); err != nil {
		t.Fatal(err)
	}
	out, err := l.admin().DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{})
	if err != nil || len(out.Snapshots) != 1 || *out.Snapshots[0].VolumeId != id || *out.Snapshots[0].VolumeSize != 1 || !hasTag(out.Snapshots[0].Tags, "Name", "data") {
		t.Fatalf("%+v, %v", out, err)
	}
	kept, _ := l.catalog.Snapshot("us-west-2", *out.Snapshots[0].SnapshotId)
	if block, _, ok, err := l.catalog.Read(kept, 0); !ok || err != nil || !bytes.HasPrefix(block, data) {
		t.Errorf("the snapshot does not hold what the volume did: %v, %v", ok, err)
	}
	if err := h.(resource.Snapshotter).Snapshot(t.Context(), id, r); err != nil {
		t.Errorf("of what is gone: %v", err)
	}

	back := request("two", map[string]any{"AvailabilityZone": "us-west-2c", "Size": "2", "SnapshotId": kept.ID})
	id = create(t, h, back)
	disk = l.fleet.VolumeDisk(id)
	if got, err := os.ReadFile(disk); err != nil || len(got) != 1<<30 || !bytes.HasPrefix(got, data) {
		t.Errorf("the volume has not what its snapshot has: %d bytes, %v", len(got), err)
	}
	other := request("two", map[string]any{"AvailabilityZone": "us-west-2c", "Size": "2"})
	other.Before = back.Properties
	if err := h.Update(t.Context(), id, other); err == nil || !strings.Contains(err.Error(), "SnapshotId") {
		t.Errorf("made of another snapshot afterwards: %v", err)
	}
	back.Before = other.Properties
	if err := h.Update(t.Context(), id, back); err != nil {
		t.Errorf("rolled back: %v", err)
	}
}

func TestAVolumeOfASnapshotIsAtLeastLikeIt(t *testing.T) {
	l := newLab(t)
	key := "arn:aws:kms:us-west-2:111122223333:key/k"
	of, err := l.catalog.Capture(catalog.Snapshot{Region: "us-west-2", VolumeID: "vol-1", VolumeGiB: 8, Encrypted: true, KMSKey: key}, "/none")
	if err != nil {
		t.Fatal(err)
	}
	zone := aws.String("us-west-2a")
	made, err := l.admin().CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: &of.ID})
	if err != nil || *made.Size != 8 || *made.SnapshotId != of.ID || !*made.Encrypted || *made.KmsKeyId != key {
		t.Errorf("%+v, %v", made, err)
	}
	_, err = l.admin().CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: &of.ID, Size: aws.Int32(7)})
	refused(t, err, "InvalidParameterValue", "snapshot of 8 GiB")
	_, err = l.admin().CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: aws.String("snap-0fffffffffffffff")})
	refused(t, err, "InvalidSnapshot.NotFound", "snap-0fffffffffffffff")
	_, err = l.admin().CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: aws.String("data")})
	refused(t, err, "InvalidSnapshotID.Malformed", "data")
}
