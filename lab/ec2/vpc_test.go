package ec2

import (
	"context"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// makeVPC creates a VPC with the block.
func makeVPC(t *testing.T, c *ec2.Client, block string) string {
	t.Helper()
	out, err := c.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String(block)})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Vpc.VpcId
}

// makeSubnet creates a subnet with the block in a zone.
func makeSubnet(t *testing.T, c *ec2.Client, vpcID, block, zone string) string {
	t.Helper()
	out, err := c.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: aws.String(vpcID), CidrBlock: aws.String(block), AvailabilityZone: aws.String(zone)})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Subnet.SubnetId
}

func TestAVPCThatIsCreatedIsDescribedTaggedAndDeleted(t *testing.T) {
	l := newLab(t)
	c, ctx := l.admin(), t.Context()
	out, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{
		CidrBlock: aws.String("10.1.2.3/16"), AmazonProvidedIpv6CidrBlock: aws.Bool(true),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVpc, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("mine")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	v := out.Vpc
	if *v.CidrBlock != "10.1.0.0/16" || v.State != types.VpcStateAvailable || len(v.Ipv6CidrBlockAssociationSet) != 1 {
		t.Errorf("created %+v", v)
	}
	if block := *v.Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock; block != "2001:db8::/56" {
		t.Errorf("IPv6 block %s", block)
	}
	list, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{{Name: aws.String("tag:Name"), Values: []string{"mine"}}}})
	if err != nil || len(list.Vpcs) != 1 || *list.Vpcs[0].VpcId != *v.VpcId {
		t.Fatalf("by tag: %+v, %v", list, err)
	}
	if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{*v.VpcId}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}); err != nil {
		t.Error(err)
	}
	if list, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{*v.VpcId}}); err != nil || len(list.Vpcs[0].Tags) != 2 {
		t.Errorf("after CreateTags: %+v, %v", list, err)
	}
	for name, attribute := range map[string]types.VpcAttributeName{"hostnames": types.VpcAttributeNameEnableDnsHostnames, "support": types.VpcAttributeNameEnableDnsSupport} {
		now, err := c.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: v.VpcId, Attribute: attribute})
		if err != nil {
			t.Fatal(err)
		}
		if name == "hostnames" && *now.EnableDnsHostnames.Value || name == "support" && !*now.EnableDnsSupport.Value {
			t.Errorf("a new VPC has DNS %s %+v", name, now)
		}
	}
	on := &ec2.ModifyVpcAttributeInput{VpcId: v.VpcId, EnableDnsHostnames: &types.AttributeBooleanValue{Value: aws.Bool(true)}}
	if _, err := c.ModifyVpcAttribute(ctx, on); err != nil {
		t.Error(err)
	}
	if now := l.plan.Now().VPC(*v.VpcId); !now.DNSHostnames || !now.DNSSupport {
		t.Errorf("after ModifyVpcAttribute: %+v", now)
	}
	if _, err := c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: v.VpcId}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{*v.VpcId}})
	refused(t, err, "InvalidVpcID.NotFound", *v.VpcId)
}

func TestVPCsAreRefusedAsEC2Would(t *testing.T) {
	l := newLab(t)
	c, ctx := l.admin(), t.Context()
	makeVPC(t, c, "10.1.0.0/16")
	for block, code := range map[string]string{
		"10.2.0.0/15": "InvalidVpc.Range", "10.2.0.0/29": "InvalidVpc.Range", "169.254.0.0/16": "InvalidVpc.Range",
		"ten": "InvalidParameterValue", "2001:db8::/56": "InvalidParameterValue",
		"10.1.128.0/20": "UnsupportedOperation", "10.0.0.0/16": "UnsupportedOperation",
	} {
		_, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(block)})
		refused(t, err, code, block)
	}
	own := vpc.Default().VPCID
	_, err := c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: aws.String(own)})
	refused(t, err, "OperationNotPermitted", own)
	_, err = c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")}, func(o *ec2.Options) { o.Region = "eu-central-1" })
	refused(t, err, "UnsupportedOperation", "eu-central-1")
	_, err = l.as("ASIA", "secret", "t").CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
	refused(t, err, "UnauthorizedOperation", "")
}

func TestSubnetsAreRefusedAsEC2Would(t *testing.T) {
	l := newLab(t)
	c := l.admin()
	id := makeVPC(t, c, "10.1.0.0/16")
	makeSubnet(t, c, id, "10.1.16.0/20", "us-west-2b")
	for _, tt := range []struct{ name, vpc, block, zone, code string }{
		{"outside of the VPC", id, "10.2.0.0/24", "us-west-2a", "InvalidSubnet.Range"},
		{"wider than the VPC", id, "10.0.0.0/15", "us-west-2a", "InvalidSubnet.Range"},
		{"too small", id, "10.1.0.0/29", "us-west-2a", "InvalidSubnet.Range"},
		{"over another subnet", id, "10.1.31.0/24", "us-west-2a", "InvalidSubnet.Conflict"},
		{"in a zone that is none", id, "10.1.0.0/24", "us-west-2d", "InvalidParameterValue"},
		{"in no VPC", "vpc-0123456789abcdef0", "10.1.0.0/24", "us-west-2a", "InvalidVpcID.NotFound"},
	} {
		_, err := c.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: aws.String(tt.vpc), CidrBlock: aws.String(tt.block), AvailabilityZone: aws.String(tt.zone)})
		t.Run(tt.name, func(t *testing.T) { refused(t, err, tt.code, "") })
	}
}

func TestInstancesOfACreatedSubnetAreInItsVPC(t *testing.T) {
	l := newLab(t)
	c, ctx := l.admin(), t.Context()
	vpcID := makeVPC(t, c, "10.1.0.0/16")
	subnet := makeSubnet(t, c, vpcID, "10.1.0.0/28", "us-west-2c")
	out, err := c.RunInstances(ctx, runInput(func(in *ec2.RunInstancesInput) { in.SubnetId = aws.String(subnet) }))
	if err != nil {
		t.Fatal(err)
	}
	i := out.Instances[0]
	if *i.VpcId != vpcID || *i.SubnetId != subnet || *i.Placement.AvailabilityZone != "us-west-2c" || *i.NetworkInterfaces[0].VpcId != vpcID {
		t.Errorf("launched %+v", i)
	}
	byVPC := &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpcID}}}}
	if list, err := c.DescribeInstances(ctx, byVPC); err != nil || len(list.Reservations) != 1 {
		t.Errorf("by VPC: %+v, %v", list, err)
	}
	subnets, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{subnet}})
	if err != nil || *subnets.Subnets[0].VpcId != vpcID || *subnets.Subnets[0].AvailableIpAddressCount != 10 {
		t.Errorf("the subnet: %+v, %v", subnets, err)
	}

	_, err = c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: aws.String(subnet)})
	refused(t, err, "DependencyViolation", subnet)
	_, err = c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: aws.String(vpcID)})
	refused(t, err, "DependencyViolation", vpcID)
}

func TestVPCsOutliveARestart(t *testing.T) {
	l := newLab(t, sample(1, fleet.Running, nil))
	c := l.admin()
	vpcID := makeVPC(t, c, "10.1.0.0/16")
	subnet := makeSubnet(t, c, vpcID, "10.1.0.0/24", "us-west-2a")
	again, err := vpc.Open(vpc.Default(), l.fleet.Dir.Networks())
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Now().Subnet(subnet); got == nil || got.VPCID != vpcID || got.Bridge != "subnet-"+subnet[len(subnet)-8:] {
		t.Errorf("read again: %+v", got)
	}
	if len(again.Now().Subnets) != 4 {
		t.Errorf("the lab's own subnets are not there: %+v", again.Now().Subnets)
	}
}

func TestSubnetsKeepWhatInstancesAreToGet(t *testing.T) {
	l := newLab(t)
	c, ctx := l.admin(), t.Context()
	vpcID := makeVPC(t, c, "10.1.0.0/16")
	blocks, err := c.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: aws.String(vpcID), AmazonProvidedIpv6CidrBlock: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	association := blocks.Ipv6CidrBlockAssociation.AssociationId
	plain := makeSubnet(t, c, vpcID, "10.1.0.0/24", "us-west-2a")
	ipv6 := &types.AttributeBooleanValue{Value: aws.Bool(true)}
	_, err = c.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: aws.String(plain), AssignIpv6AddressOnCreation: ipv6})
	refused(t, err, "InvalidParameterValue", plain)
	dual, err := c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: aws.String(vpcID), CidrBlock: aws.String("10.1.1.0/24"), Ipv6CidrBlock: aws.String("2001:db8:0:1::/64")})
	if err != nil {
		t.Fatal(err)
	}
	id := dual.Subnet.SubnetId
	for _, in := range []*ec2.ModifySubnetAttributeInput{
		{SubnetId: id, AssignIpv6AddressOnCreation: ipv6}, {SubnetId: id, MapPublicIpOnLaunch: ipv6},
	} {
		if _, err := c.ModifySubnetAttribute(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	now, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{*id}})
	if err != nil || !*now.Subnets[0].MapPublicIpOnLaunch || !*now.Subnets[0].AssignIpv6AddressOnCreation {
		t.Errorf("got %+v, %v", now, err)
	}
	_, err = c.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: association})
	refused(t, err, "InvalidCidrBlock.InUse", vpcID)
	if _, err := c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: id}); err != nil {
		t.Error(err)
	}
	if _, err := c.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: association}); err != nil {
		t.Error(err)
	}
}

func TestZonesAreTheRegions(t *testing.T) {
	out, err := newLab(t).admin().DescribeAvailabilityZones(context.Background(), &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, z := range out.AvailabilityZones {
		got = append(got, *z.ZoneName+" "+*z.ZoneId)
	}
	if want := []string{"us-west-2a usw2-az1", "us-west-2b usw2-az2", "us-west-2c usw2-az3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
