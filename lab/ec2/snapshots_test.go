package ec2

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

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
}
