package ec2

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

// register makes an available image of a snapshot of 3 GiB.
func (l lab) register(t *testing.T, region string, size int64) string {
	t.Helper()
	snapshot, err := l.catalog.Start(catalog.Snapshot{Region: region, VolumeGiB: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.catalog.Complete(region, snapshot.ID, 0, nil); err != nil {
		t.Fatal(err)
	}
	for {
		image, err := l.catalog.Register(catalog.Image{
			Region: region, Name: "image", RootDevice: "/dev/sda1", Devices: []catalog.Device{{Name: "/dev/sda1", Snapshot: snapshot.ID, VolumeGiB: size}},
		})
		if err == nil {
			return image.ID
		}
		if !errors.Is(err, catalog.ErrNotReady) {
			t.Fatal(err)
		}
	}
}

func TestAnInstanceIsMadeOfARegisteredImageOfItsRegion(t *testing.T) {
	l := newLab(t)
	here, away := l.register(t, "us-west-2", 4), l.register(t, "us-east-1", 0)
	out, err := l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.ImageId = &here }))
	if err != nil {
		t.Fatal(err)
	}
	if i := l.fleet.Instances()[0]; i.ImageID != here || i.VolumeGiB != 4 || *out.Instances[0].RootDeviceName != "/dev/sda1" {
		t.Errorf("instance %+v", i)
	}
	_, err = l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.ImageId = &away }))
	refused(t, err, "InvalidAMIID.NotFound", away)
	_, err = l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("resolve:ssm:/none") }))
	refused(t, err, "InvalidParameterValue", "/none")
	elsewhere := func(o *ec2.Options) { o.Region = "us-east-1" }
	_, err = l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.ImageId = &away }), elsewhere)
	refused(t, err, "InvalidSubnetID.NotFound", subnetB)
	if all, err := l.admin().DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{}, elsewhere); err != nil || len(all.Reservations) != 0 {
		t.Errorf("instances elsewhere: %v, %v", all, err)
	}
}

func TestAnInstanceIsMadeOfTheImageThatAParameterNames(t *testing.T) {
	l := newLab(t)
	_, err := l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("resolve:ssm:/golden") }))
	if err != nil || l.fleet.Instances()[0].ImageID != ami {
		t.Error(err)
	}
}
