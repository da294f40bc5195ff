package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Volumes is EC2, as far as the data volume goes.
type Volumes interface {
	DescribeVolumes(context.Context, *ec2.DescribeVolumesInput, ...func(*ec2.Options)) (*ec2.DescribeVolumesOutput, error)
	AttachVolume(context.Context, *ec2.AttachVolumeInput, ...func(*ec2.Options)) (*ec2.AttachVolumeOutput, error)
}

// Interfaces is EC2, as far as the network interface goes.
type Interfaces interface {
	DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	AttachNetworkInterface(context.Context, *ec2.AttachNetworkInterfaceInput, ...func(*ec2.Options)) (*ec2.AttachNetworkInterfaceOutput, error)
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
}

const (
	// volumeDevice is the name that EC2 wants for an attachment; on the machine the drive has
	// another.
	volumeDevice = "/dev/sdf"
	// interfaceIndex is that of the first interface beside the instance's own.
	interfaceIndex = 1
)

// attachment is who has a volume or a network interface.
type attachment struct {
	what     string // "vol-..."
	state    string // of the thing: "available", "in-use"
	instance string // that has it, empty: none
	how      string // "attaching", "attached", "detaching", "busy"
	zone     string
}

// judge says whether the thing is to be attached to an instance in a zone. It returns false and
// no error when it is attached there, and waiting while nothing is to be done but that. One that
// another instance has is waited for, however long: two machines that write to one volume would
// destroy it, and only who ends the other instance knows that it has ended.
func (a attachment) judge(instance, zone string) (attach bool, err error) {
	switch {
	case a.zone != zone:
		return false, fmt.Errorf("%s is in zone %s and this instance in %s: start it in a subnet of %s", a.what, a.zone, zone, a.zone)
	case a.instance == instance && a.how == "attached":
		return false, nil
	case a.instance == instance:
		return false, waiting(fmt.Sprintf("%s is %s", a.what, a.how))
	case a.instance != "":
		return false, waiting(fmt.Sprintf("%s has %s (%s): it comes here when that instance is terminated", a.instance, a.what, a.how))
	case a.state == "available":
		return true, nil
	case a.state == "deleting" || a.state == "deleted" || a.state == "error":
		return false, fmt.Errorf("%s is in state %s: restore it from a snapshot, and name the new one in user-data", a.what, a.state)
	default:
		return false, waiting(fmt.Sprintf("%s is %s", a.what, a.state))
	}
}

func (h *Host) attachVolume(ctx context.Context) error {
	id := h.Spec.VolumeID
	described, err := h.Clouds.Volumes.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		return fmt.Errorf("look for %s: %w", id, err)
	}
	if len(described.Volumes) != 1 {
		return fmt.Errorf("look for %s: EC2 tells of %d volumes", id, len(described.Volumes))
	}
	attach, err := volumeAttachment(described.Volumes[0]).judge(h.Instance.ID, h.Instance.AvailabilityZone)
	if err != nil || !attach {
		return err
	}
	if _, err := h.Clouds.Volumes.AttachVolume(ctx, &ec2.AttachVolumeInput{
		VolumeId: &id, InstanceId: &h.Instance.ID, Device: aws.String(volumeDevice),
	}); err != nil {
		return fmt.Errorf("attach %s: %w", id, err)
	}
	return waiting(id + " is attaching")
}

func volumeAttachment(v types.Volume) attachment {
	a := attachment{what: aws.ToString(v.VolumeId), state: string(v.State), zone: aws.ToString(v.AvailabilityZone)}
	for _, to := range v.Attachments {
		if to.State != types.VolumeAttachmentStateDetached {
			a.instance, a.how = aws.ToString(to.InstanceId), string(to.State)
		}
	}
	return a
}

func (h *Host) attachInterface(ctx context.Context) error {
	id := h.Spec.NetworkInterfaceID
	described, err := h.Clouds.Interfaces.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
	if err != nil {
		return fmt.Errorf("look for %s: %w", id, err)
	}
	if len(described.NetworkInterfaces) != 1 {
		return fmt.Errorf("look for %s: EC2 tells of %d network interfaces", id, len(described.NetworkInterfaces))
	}
	found := described.NetworkInterfaces[0]
	attach, err := interfaceAttachment(found).judge(h.Instance.ID, h.Instance.AvailabilityZone)
	if err != nil {
		return err
	}
	if h.at, err = h.addressOf(ctx, found); err != nil {
		return err
	}
	// Before the interface comes: networkd would ask for a lease on one that no file is for.
	if err := h.configureNetwork(ctx); err != nil || !attach {
		return err
	}
	if _, err := h.Clouds.Interfaces.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: &id, InstanceId: &h.Instance.ID, DeviceIndex: aws.Int32(interfaceIndex),
	}); err != nil {
		return fmt.Errorf("attach %s: %w", id, err)
	}
	return waiting(id + " is attaching")
}

func interfaceAttachment(i types.NetworkInterface) attachment {
	a := attachment{what: aws.ToString(i.NetworkInterfaceId), state: string(i.Status), zone: aws.ToString(i.AvailabilityZone)}
	if to := i.Attachment; to != nil && to.Status != types.AttachmentStatusDetached {
		a.instance, a.how = aws.ToString(to.InstanceId), string(to.Status)
		if a.instance == "" {
			a.instance = "a service of AWS"
		}
	}
	return a
}

// addressOf asks what network the interface's address is in.
func (h *Host) addressOf(ctx context.Context, i types.NetworkInterface) (address, error) {
	subnets, err := h.Clouds.Interfaces.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{aws.ToString(i.SubnetId)}})
	if err == nil && len(subnets.Subnets) != 1 {
		err = fmt.Errorf("EC2 tells of %d subnets", len(subnets.Subnets))
	}
	if err != nil {
		return address{}, fmt.Errorf("look for the subnet %s of %s: %w", aws.ToString(i.SubnetId), aws.ToString(i.NetworkInterfaceId), err)
	}
	a := address{mac: aws.ToString(i.MacAddress)}
	var failed [2]error
	a.address, failed[0] = netip.ParseAddr(aws.ToString(i.PrivateIpAddress))
	a.subnet, failed[1] = netip.ParsePrefix(aws.ToString(subnets.Subnets[0].CidrBlock))
	if err := errors.Join(failed[:]...); err != nil {
		return address{}, fmt.Errorf("read the address of %s: %w", aws.ToString(i.NetworkInterfaceId), err)
	}
	return a, nil
}
