package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func (l lab) volume(t *testing.T, zone string) string {
	t.Helper()
	out, err := l.admin().CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: &zone, Size: aws.Int32(8), VolumeType: types.VolumeTypeGp3, Encrypted: aws.Bool(true)})
	if err != nil || out.State != types.VolumeStateCreating || !*out.Encrypted || *out.Iops != 3000 {
		t.Fatalf("%+v, %v", out, err)
	}
	return *out.VolumeId
}

func TestAVolumeIsAttachedDetachedAndDeleted(t *testing.T) {
	l := newLab(t, sample(1, fleet.Stopped, nil))
	client, ctx, instance := l.admin(), t.Context(), sample(1, "", nil).ID
	id := l.volume(t, "us-west-2b")
	attach := &ec2.AttachVolumeInput{VolumeId: &id, InstanceId: &instance, Device: aws.String("/dev/sdf")}
	if out, err := client.AttachVolume(ctx, attach); err != nil || out.State != types.VolumeAttachmentStateAttached {
		t.Fatalf("%+v, %v", out, err)
	}
	_, err := client.AttachVolume(ctx, attach)
	refused(t, err, "VolumeInUse", id)
	_, err = client.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id})
	refused(t, err, "VolumeInUse", instance)
	out, err := client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{instance}}, {Name: aws.String("encrypted"), Values: []string{"true"}}}})
	if err != nil || len(out.Volumes) != 1 || out.Volumes[0].State != types.VolumeStateInUse || *out.Volumes[0].Attachments[0].Device != "/dev/sdf" {
		t.Errorf("%+v, %v", out, err)
	}
	described, err := client.DescribeInstances(ctx, nil)
	if err != nil || len(described.Reservations[0].Instances[0].BlockDeviceMappings) != 2 {
		t.Errorf("%+v, %v", described, err)
	}
	if _, err := client.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &id}); err != nil {
		t.Error(err)
	}
	_, err = client.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &id})
	refused(t, err, "IncorrectState", "available")
	if _, err := client.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id}); err != nil {
		t.Error(err)
	}
	_, err = client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	refused(t, err, "InvalidVolume.NotFound", id)
}

func TestVolumesAreRefusedWhatEC2Refuses(t *testing.T) {
	terminated := sample(2, fleet.Terminated, nil)
	terminated.VolumeID = "vol-2"
	root := sample(1, fleet.Stopped, nil)
	root.VolumeID = "vol-00000001"
	l := newLab(t, root, terminated)
	client, ctx := l.admin(), t.Context()
	here, away, other := l.volume(t, "us-west-2b"), l.volume(t, "us-west-2a"), l.volume(t, "us-west-2b")
	if _, err := client.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &other, InstanceId: &root.ID, Device: aws.String("/dev/sdf")}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ volume, instance, device, code string }{
		"another zone":       {away, root.ID, "/dev/sdg", "InvalidVolume.ZoneMismatch"},
		"no such volume":     {"vol-0fffffffffffffff", root.ID, "/dev/sdg", "InvalidVolume.NotFound"},
		"no such instance":   {here, "i-0fffffffffffffff", "/dev/sdg", "InvalidInstanceID.NotFound"},
		"an ended instance":  {here, terminated.ID, "/dev/sdg", "IncorrectState"},
		"a device in use":    {here, root.ID, "/dev/sdf", "InvalidParameterValue"},
		"no device's name":   {here, root.ID, "disk", "InvalidParameterValue"},
		"an ID of something": {"disk", root.ID, "/dev/sdg", "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &c.volume, InstanceId: &c.instance, Device: &c.device})
			refused(t, err, c.code, "")
		})
	}
	_, err := client.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &root.VolumeID})
	refused(t, err, "UnsupportedOperation", "root volumes")
	_, err = client.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &root.VolumeID})
	refused(t, err, "OperationNotPermitted", root.VolumeID)
	_, err = client.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String("mars"), Size: aws.Int32(8)})
	refused(t, err, "InvalidZone.NotFound", "mars")
	_, err = client.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String("us-west-2a")})
	refused(t, err, "MissingParameter", "Size")
}
