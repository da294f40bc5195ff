package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
)

// makeInterface makes a network interface in subnet B, unless it is changed.
func (l lab) makeInterface(t *testing.T, change ...func(*ec2.CreateNetworkInterfaceInput)) types.NetworkInterface {
	t.Helper()
	in := &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(subnetB)}
	for _, c := range change {
		c(in)
	}
	out, err := l.admin().CreateNetworkInterface(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.NetworkInterface
}

func (l lab) networkInterface(t *testing.T, id string) types.NetworkInterface {
	t.Helper()
	out, err := l.admin().DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
	if err != nil || len(out.NetworkInterfaces) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	return out.NetworkInterfaces[0]
}

// stopped is an instance that attaches at once.
func stopped(n int) fleet.Instance {
	i := sample(n, fleet.Stopped, nil)
	i.InterfaceID, i.AttachmentID = "eni-0000000000000000"+string(rune('0'+n)), "eni-attach-0000000000000000"+string(rune('0'+n))
	return i
}

func TestANetworkInterfaceIsMadeAttachedDetachedAndDeleted(t *testing.T) {
	i := stopped(1)
	l := newLab(t, i)
	client, ctx, group := l.admin(), t.Context(), l.group(t, "host")
	made := l.makeInterface(t, func(in *ec2.CreateNetworkInterfaceInput) {
		in.Description, in.PrivateIpAddress, in.Groups = aws.String("fixed"), aws.String("10.0.16.200"), []string{group}
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("eni")}}}}
	})
	if made.Status != "pending" || *made.PrivateIpAddress != "10.0.16.200" || *made.VpcId != theVPC || *made.AvailabilityZone != "us-west-2b" || len(*made.MacAddress) != 17 {
		t.Errorf("made %+v", made)
	}
	id := *made.NetworkInterfaceId
	n := l.networkInterface(t, id)
	if n.Status != types.NetworkInterfaceStatusAvailable || n.Attachment != nil || *n.Description != "fixed" || *n.Groups[0].GroupId != group || !hasTag(n.TagSet, "Name", "eni") || !*n.SourceDestCheck || !*n.PrivateIpAddresses[0].Primary {
		t.Errorf("described %+v", n)
	}

	attach := &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &id, InstanceId: &i.ID, DeviceIndex: aws.Int32(1)}
	attached, err := client.AttachNetworkInterface(ctx, attach)
	if err != nil {
		t.Fatal(err)
	}
	n = l.networkInterface(t, id)
	if a := n.Attachment; n.Status != types.NetworkInterfaceStatusInUse || *a.AttachmentId != *attached.AttachmentId || *a.InstanceId != i.ID || *a.DeviceIndex != 1 || a.Status != types.AttachmentStatusAttached || *a.DeleteOnTermination {
		t.Errorf("attached %+v, %+v", n, a)
	}
	described, err := client.DescribeInstances(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if all := described.Reservations[0].Instances[0].NetworkInterfaces; len(all) != 2 || *all[1].NetworkInterfaceId != id || *all[1].Attachment.DeviceIndex != 1 || *all[1].MacAddress != *made.MacAddress || *all[1].Description != "fixed" {
		t.Errorf("the instance has %+v", all)
	}
	_, err = client.AttachNetworkInterface(ctx, attach)
	refused(t, err, "InvalidNetworkInterface.InUse", "Interface: ["+id+"] in use.")
	_, err = client.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id})
	refused(t, err, "InvalidParameterValue", "Network interface '"+id+"' is currently in use.")
	_, err = client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &group})
	refused(t, err, "DependencyViolation", group)

	detach := &ec2.DetachNetworkInterfaceInput{AttachmentId: attached.AttachmentId}
	if _, err := client.DetachNetworkInterface(ctx, detach); err != nil {
		t.Fatal(err)
	}
	_, err = client.DetachNetworkInterface(ctx, detach)
	refused(t, err, "InvalidAttachmentID.NotFound", *attached.AttachmentId)
	if n := l.networkInterface(t, id); n.Status != types.NetworkInterfaceStatusAvailable {
		t.Errorf("detached %+v", n)
	}
	if _, err := client.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &id}); err != nil {
		t.Error(err)
	}
	_, err = client.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
	refused(t, err, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '"+id+"' does not exist")
	if _, err := client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &group}); err != nil {
		t.Error(err)
	}
}

func TestAnInterfaceKeepsItsAddressFromOthers(t *testing.T) {
	l := newLab(t, sample(1, fleet.Stopped, nil)) // at 10.0.16.101
	l.makeInterface(t, func(in *ec2.CreateNetworkInterfaceInput) {
		in.PrivateIpAddresses = []types.PrivateIpAddressSpecification{{PrivateIpAddress: aws.String("10.0.16.200"), Primary: aws.Bool(true)}}
	})
	for address, code := range map[string]string{
		"10.0.16.200": "InvalidIPAddress.InUse", "10.0.16.101": "InvalidIPAddress.InUse",
		"10.0.16.1": "InvalidParameterValue", "10.0.0.200": "InvalidParameterValue", "here": "InvalidParameterValue",
	} {
		_, err := l.admin().CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(subnetB), PrivateIpAddress: &address})
		refused(t, err, code, "")
	}
	_, err := l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.0.16.200") }))
	refused(t, err, "InvalidIPAddress.InUse", "10.0.16.200")
	subnets, err := l.admin().DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{subnetB}})
	if err != nil || int(*subnets.Subnets[0].AvailableIpAddressCount) != l.plan.Subnets[1].Size()-2 {
		t.Errorf("%+v, %v", subnets, err)
	}
}

func TestASubnetWithAnInterfaceIsNotDeleted(t *testing.T) {
	l := newLab(t)
	client, ctx := l.admin(), t.Context()
	network, err := client.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.7.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	subnet, err := client.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: network.Vpc.VpcId, CidrBlock: aws.String("10.7.0.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	made := l.makeInterface(t, func(in *ec2.CreateNetworkInterfaceInput) { in.SubnetId = subnet.Subnet.SubnetId })
	_, err = client.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.Subnet.SubnetId})
	refused(t, err, "DependencyViolation", *subnet.Subnet.SubnetId)
	if _, err := client.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: made.NetworkInterfaceId}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.Subnet.SubnetId}); err != nil {
		t.Error(err)
	}
}

func TestAClientTokenMakesOneInterface(t *testing.T) {
	l := newLab(t)
	once := func(in *ec2.CreateNetworkInterfaceInput) { in.ClientToken = aws.String("once") }
	first := l.makeInterface(t, once)
	if again := l.makeInterface(t, once); *again.NetworkInterfaceId != *first.NetworkInterfaceId || *again.PrivateIpAddress != *first.PrivateIpAddress {
		t.Errorf("%s again is %s", *first.NetworkInterfaceId, *again.NetworkInterfaceId)
	}
	_, err := l.admin().CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(subnetB), ClientToken: aws.String("once"), Description: aws.String("another")})
	refused(t, err, "IdempotentParameterMismatch", "")
	// The record outlives the process.
	next := &Inventory{Path: l.dir.Inventory()}
	if err := next.Open(); err != nil || len(next.of("us-west-2").Interfaces) != 1 {
		t.Errorf("%+v, %v", next.of("us-west-2").Interfaces, err)
	}
}

func TestInterfacesAreFoundByFiltersThoseOfInstancesToo(t *testing.T) {
	i := stopped(1)
	i.Groups = []fleet.Group{{ID: "sg-1", Name: "nodes"}}
	l := newLab(t, i, sample(2, fleet.Terminated, nil))
	free := l.makeInterface(t, func(in *ec2.CreateNetworkInterfaceInput) { in.Description = aws.String("free") })
	for name, c := range map[string]struct {
		value string
		want  string
	}{
		"attachment.instance-id":           {i.ID, i.InterfaceID},
		"attachment.device-index":          {"0", i.InterfaceID},
		"attachment.delete-on-termination": {"true", i.InterfaceID},
		"group-name":                       {"nodes", i.InterfaceID},
		"mac-address":                      {i.MAC, i.InterfaceID},
		"private-ip-address":               {"10.0.16.101", i.InterfaceID},
		"description":                      {"fr*", *free.NetworkInterfaceId},
		"status":                           {"available", *free.NetworkInterfaceId},
		"network-interface-id":             {*free.NetworkInterfaceId, *free.NetworkInterfaceId},
	} {
		out, err := l.admin().DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{
			{Name: &name, Values: []string{c.value}}, {Name: aws.String("subnet-id"), Values: []string{subnetB}}, {Name: aws.String("vpc-id"), Values: []string{theVPC}},
		}})
		if err != nil || len(out.NetworkInterfaces) != 1 || *out.NetworkInterfaces[0].NetworkInterfaceId != c.want {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	_, err := l.admin().DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}})
	refused(t, err, "InvalidParameterValue", "colour")
}

func TestWhatAnInterfaceCannotBeIsRefusedAsByEC2(t *testing.T) {
	i, full, ended := stopped(1), stopped(2), stopped(3)
	full.Interfaces = []fleet.Interface{{ID: "eni-1", Index: 1}, {ID: "eni-2", Index: 2, Slot: 1}}
	ended.State = fleet.Terminated
	l := newLab(t, i, full, ended)
	client, ctx := l.admin(), t.Context()
	here := *l.makeInterface(t).NetworkInterfaceId
	away := *l.makeInterface(t, func(in *ec2.CreateNetworkInterfaceInput) { in.SubnetId = aws.String("subnet-0aaaaaaaaaaaaaaaa") }).NetworkInterfaceId
	for name, c := range map[string]struct {
		id, instance  string
		index         int32
		code, message string
	}{
		"another zone":       {away, i.ID, 1, "InvalidParameterCombination", "availability zone"},
		"no such interface":  {"eni-0fffffffffffffff", i.ID, 1, "InvalidNetworkInterfaceID.NotFound", "eni-0fffffffffffffff"},
		"an instance's own":  {full.InterfaceID, i.ID, 1, "InvalidNetworkInterface.InUse", full.InterfaceID},
		"no interface's ID":  {"disk", i.ID, 1, "InvalidNetworkInterfaceId.Malformed", "disk"},
		"no such instance":   {here, "i-0fffffffffffffff", 1, "InvalidInstanceID.NotFound", "i-0fffffffffffffff"},
		"an ended instance":  {here, ended.ID, 1, "IncorrectState", "terminated"},
		"the first index":    {here, i.ID, 0, "InvalidParameterValue", "already has an interface attached at device index '0'"},
		"an index in use":    {here, full.ID, 2, "InvalidParameterValue", "already has an interface attached at device index '2'"},
		"one beyond a limit": {here, full.ID, 3, "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for t3.medium"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &c.id, InstanceId: &c.instance, DeviceIndex: &c.index})
			refused(t, err, c.code, c.message)
		})
	}
	_, err := client.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: &i.AttachmentID})
	refused(t, err, "OperationNotPermitted", "device index 0")
	_, err = client.DetachNetworkInterface(ctx, &ec2.DetachNetworkInterfaceInput{AttachmentId: &here})
	refused(t, err, "InvalidNetworkInterfaceAttachmentId.Malformed", here)
	_, err = client.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &i.InterfaceID})
	refused(t, err, "InvalidParameterValue", "is currently in use")
	_, err = client.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String("subnet-0fffffffffffffff")})
	refused(t, err, "InvalidSubnetID.NotFound", "subnet-0fffffffffffffff")
	_, err = client.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(subnetB), Groups: []string{"sg-0fffffffffffffff"}})
	refused(t, err, "InvalidGroup.NotFound", "sg-0fffffffffffffff")
	_, err = client.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(subnetB), SecondaryPrivateIpAddressCount: aws.Int32(2)})
	refused(t, err, "UnknownParameter", "SecondaryPrivateIpAddressCount")
}

func TestAnAttributeOfAnInterfaceIsChangedOneAtATime(t *testing.T) {
	i := stopped(1)
	l := newLab(t, i)
	client, ctx, group := l.admin(), t.Context(), l.group(t, "host")
	id := *l.makeInterface(t).NetworkInterfaceId
	modify := func(change func(*ec2.ModifyNetworkInterfaceAttributeInput)) error {
		in := &ec2.ModifyNetworkInterfaceAttributeInput{NetworkInterfaceId: &id}
		change(in)
		_, err := client.ModifyNetworkInterfaceAttribute(ctx, in)
		return err
	}
	described := func(in *ec2.ModifyNetworkInterfaceAttributeInput) {
		in.Description = &types.AttributeValue{Value: aws.String("new")}
	}
	grouped := func(in *ec2.ModifyNetworkInterfaceAttributeInput) { in.Groups = []string{group} }
	attached, err := client.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &id, InstanceId: &i.ID, DeviceIndex: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	going := func(in *ec2.ModifyNetworkInterfaceAttributeInput) {
		in.Attachment = &types.NetworkInterfaceAttachmentChanges{AttachmentId: attached.AttachmentId, DeleteOnTermination: aws.Bool(true)}
	}
	for name, change := range map[string]func(*ec2.ModifyNetworkInterfaceAttributeInput){
		"description": described, "groups": grouped, "delete on termination": going,
		"source check": func(in *ec2.ModifyNetworkInterfaceAttributeInput) {
			in.SourceDestCheck = &types.AttributeBooleanValue{Value: aws.Bool(true)}
		},
	} {
		if err := modify(change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := l.networkInterface(t, id)
	if *n.Description != "new" || *n.Groups[0].GroupId != group || !*n.Attachment.DeleteOnTermination || l.fleet.Instances()[0].Interfaces[0].Groups[0].ID != group {
		t.Errorf("%+v, %+v", n, l.fleet.Instances()[0].Interfaces)
	}
	refused(t, modify(func(*ec2.ModifyNetworkInterfaceAttributeInput) {}), "InvalidParameterCombination", "No attributes specified")
	refused(t, modify(func(in *ec2.ModifyNetworkInterfaceAttributeInput) { described(in); grouped(in) }), "InvalidParameterCombination", "description, groupSet")
	refused(t, modify(func(in *ec2.ModifyNetworkInterfaceAttributeInput) {
		in.SourceDestCheck = &types.AttributeBooleanValue{Value: aws.Bool(false)}
	}), "UnsupportedOperation", "SourceDestCheck")
	id = i.InterfaceID
	if err := modify(grouped); err != nil || l.fleet.Instances()[0].Groups[0].ID != group {
		t.Errorf("the first interface: %v, %+v", err, l.fleet.Instances()[0].Groups)
	}
	refused(t, modify(going), "InvalidAttachmentID.NotFound", *attached.AttachmentId)
}

func TestAnInterfaceOutlivesItsInstanceUnlessItIsToGoWithIt(t *testing.T) {
	for name, goes := range map[string]bool{"it stays": false, "it goes": true} {
		t.Run(name, func(t *testing.T) {
			i := stopped(1)
			l := newLab(t, i)
			id := *l.makeInterface(t).NetworkInterfaceId
			attached, err := l.admin().AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &id, InstanceId: &i.ID, DeviceIndex: aws.Int32(1)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.admin().ModifyNetworkInterfaceAttribute(t.Context(), &ec2.ModifyNetworkInterfaceAttributeInput{
				NetworkInterfaceId: &id, Attachment: &types.NetworkInterfaceAttachmentChanges{AttachmentId: attached.AttachmentId, DeleteOnTermination: &goes},
			}); err != nil {
				t.Fatal(err)
			}
			// The instance ends, and the daemon starts anew.
			i.State = fleet.Terminated
			if err := state.WriteJSON(l.dir.Fleet(), []fleet.Instance{i}, 0o600); err != nil {
				t.Fatal(err)
			}
			next, err := fleet.Open(fleet.Options{Plan: l.plan, Dir: l.dir})
			if err != nil {
				t.Fatal(err)
			}
			l.service.Fleet = next
			left := 0
			if err := l.service.change(func(c *contents) error { left = len(c.Interfaces); return nil }); err != nil {
				t.Fatal(err)
			}
			if goes != (left == 0) {
				t.Errorf("%d are left", left)
			}
		})
	}
}
