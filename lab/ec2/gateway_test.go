package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestAnInternetGatewayIsOneVPCsAtATime(t *testing.T) {
	c, ctx := newLab(t).admin(), t.Context()
	first, second := aws.String(makeVPC(t, c, "10.1.0.0/16")), aws.String(makeVPC(t, c, "10.2.0.0/16"))
	out, err := c.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := out.InternetGateway.InternetGatewayId
	_, err = c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: id, VpcId: first})
	refused(t, err, "Gateway.NotAttached", *id)
	if _, err := c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: id, VpcId: first}); err != nil {
		t.Fatal(err)
	}
	_, err = c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: id, VpcId: second})
	refused(t, err, "Resource.AlreadyAssociated", *first)
	_, err = c.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: id})
	refused(t, err, "DependencyViolation", *id)
	_, err = c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: first})
	refused(t, err, "DependencyViolation", *first)
	list, err := c.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: []types.Filter{{Name: aws.String("attachment.vpc-id"), Values: []string{*first}}}})
	if err != nil || len(list.InternetGateways) != 1 {
		t.Errorf("by VPC: %+v, %v", list, err)
	}
	if _, err := c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: id, VpcId: first}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: id}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: first}); err != nil {
		t.Error(err)
	}
}

func TestRoutesLeadToGatewaysOfTheirVPC(t *testing.T) {
	c, ctx := newLab(t).admin(), t.Context()
	vpcID := aws.String(makeVPC(t, c, "10.1.0.0/16"))
	subnet := aws.String(makeSubnet(t, c, *vpcID, "10.1.0.0/24", "us-west-2a"))
	gateway, err := c.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		t.Fatal(err)
	}
	igw := gateway.InternetGateway.InternetGatewayId
	made, err := c.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: vpcID})
	if err != nil {
		t.Fatal(err)
	}
	table := made.RouteTable.RouteTableId
	everywhere := &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: igw}
	_, err = c.CreateRoute(ctx, everywhere)
	refused(t, err, "InvalidParameterValue", *igw)
	if _, err := c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpcID}); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: subnet})
	refused(t, err, "MissingParameter", "AllocationId")
	nat, err := c.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: subnet, ConnectivityType: types.ConnectivityTypePrivate})
	if err != nil || nat.NatGateway.State != types.NatGatewayStatePending {
		t.Fatalf("%+v, %v", nat, err)
	}
	if _, err := c.CreateRoute(ctx, everywhere); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0"), NatGatewayId: nat.NatGateway.NatGatewayId})
	refused(t, err, "RouteAlreadyExists", "0.0.0.0/0")
	if _, err := c.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0"), NatGatewayId: nat.NatGateway.NatGatewayId}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: nat.NatGateway.NatGatewayId}); err != nil {
		t.Fatal(err)
	}
	list, err := c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{*table}})
	if err != nil || len(list.RouteTables[0].Routes) != 2 || list.RouteTables[0].Routes[1].State != types.RouteStateBlackhole {
		t.Fatalf("%+v, %v", list, err)
	}
	_, err = c.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("10.9.0.0/16")})
	refused(t, err, "InvalidRoute.NotFound", "10.9.0.0/16")

	associated, err := c.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: table, SubnetId: subnet})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: table, SubnetId: subnet})
	refused(t, err, "Resource.AlreadyAssociated", *table)
	_, err = c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table})
	refused(t, err, "DependencyViolation", *table)
	main, err := c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{*vpcID}}, {Name: aws.String("association.main"), Values: []string{"true"}},
	}})
	if err != nil || len(main.RouteTables) != 1 {
		t.Fatalf("the main table: %+v, %v", main, err)
	}
	_, err = c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: main.RouteTables[0].Associations[0].RouteTableAssociationId})
	refused(t, err, "InvalidParameterValue", "main")
	moved, err := c.ReplaceRouteTableAssociation(ctx, &ec2.ReplaceRouteTableAssociationInput{AssociationId: associated.AssociationId, RouteTableId: main.RouteTables[0].RouteTableId})
	if err != nil || *moved.NewAssociationId == *associated.AssociationId {
		t.Fatalf("%+v, %v", moved, err)
	}
	if _, err := c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table}); err != nil {
		t.Error(err)
	}
}

func TestEndpointsAreKeptAsTheyWereAskedFor(t *testing.T) {
	c, ctx := newLab(t).admin(), t.Context()
	vpcID := aws.String(makeVPC(t, c, "10.1.0.0/16"))
	subnet := makeSubnet(t, c, *vpcID, "10.1.0.0/24", "us-west-2a")
	in := &ec2.CreateVpcEndpointInput{
		VpcId: vpcID, ServiceName: aws.String("com.amazonaws.us-west-2.ecr.api"), VpcEndpointType: types.VpcEndpointTypeInterface,
		SubnetIds: []string{subnet}, SecurityGroupIds: []string{"sg-0123456789abcdef0"},
	}
	_, err := c.CreateVpcEndpoint(ctx, in)
	refused(t, err, "InvalidParameter", "enableDnsHostnames")
	on := &types.AttributeBooleanValue{Value: aws.Bool(true)}
	if _, err := c.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: vpcID, EnableDnsHostnames: on}); err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateVpcEndpoint(ctx, in)
	if err != nil || !*made.VpcEndpoint.PrivateDnsEnabled || len(made.VpcEndpoint.DnsEntries) != 2 || len(made.VpcEndpoint.NetworkInterfaceIds) != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	_, err = c.CreateVpcEndpoint(ctx, in)
	refused(t, err, "InvalidParameter", "conflicting DNS domain")
	_, err = c.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{VpcId: vpcID, ServiceName: aws.String("com.amazonaws.us-west-2.ec2")})
	refused(t, err, "InvalidServiceName", "ec2")
	_, err = c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: aws.String(subnet)})
	refused(t, err, "DependencyViolation", subnet)
	gone, err := c.DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{*made.VpcEndpoint.VpcEndpointId, "vpce-0123456789abcdef0"}})
	if err != nil || len(gone.Unsuccessful) != 1 || *gone.Unsuccessful[0].Error.Code != "InvalidVpcEndpointId.NotFound" {
		t.Errorf("%+v, %v", gone, err)
	}
}
