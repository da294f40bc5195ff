package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const theVPC = "vpc-0a1b2c3d4e5f60718"

func (l lab) group(t *testing.T, name string) string {
	t.Helper()
	out, err := l.admin().CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: &name, Description: aws.String("of a test"), VpcId: aws.String(theVPC)})
	if err != nil {
		t.Fatal(err)
	}
	return *out.GroupId
}

func tcp(port int32, cidr string) types.IpPermission {
	return types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, IpRanges: []types.IpRange{{CidrIp: &cidr}}}
}

func TestSecurityGroupsHoldRules(t *testing.T) {
	l := newLab(t)
	client, ctx := l.admin(), t.Context()
	id, peer := l.group(t, "nodes"), l.group(t, "control")
	nodes := types.IpPermission{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &peer, Description: aws.String("all")}}}
	out, err := client.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []types.IpPermission{tcp(443, "10.0.0.7/16"), tcp(443, "192.168.0.0/24"), nodes}})
	if err != nil || len(out.SecurityGroupRules) != 3 || *out.SecurityGroupRules[0].CidrIpv4 != "10.0.0.0/16" {
		t.Fatalf("%+v, %v", out, err)
	}
	_, err = client.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []types.IpPermission{tcp(443, "10.0.0.0/16")}})
	refused(t, err, "InvalidPermission.Duplicate", "peer: 10.0.0.0/16, TCP, from port: 443, to port: 443, ALLOW")
	_, err = client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &peer})
	refused(t, err, "DependencyViolation", peer)

	found, err := client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String("group-name"), Values: []string{"nodes"}}}})
	if err != nil || len(found.SecurityGroups) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	g := found.SecurityGroups[0]
	if len(g.IpPermissions) != 2 || len(g.IpPermissions[0].IpRanges) != 2 || *g.IpPermissions[1].UserIdGroupPairs[0].GroupId != peer || len(g.IpPermissionsEgress) != 1 || *g.IpPermissionsEgress[0].IpProtocol != "-1" {
		t.Errorf("%+v", g)
	}
	revoke := &ec2.RevokeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []types.IpPermission{nodes}}
	if _, err := client.RevokeSecurityGroupIngress(ctx, revoke); err != nil {
		t.Error(err)
	}
	_, err = client.RevokeSecurityGroupIngress(ctx, revoke)
	refused(t, err, "InvalidPermission.NotFound", "")
	if _, err := client.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: &id, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}}); err != nil {
		t.Error(err)
	}
	rules, err := client.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{{Name: aws.String("group-id"), Values: []string{id}}}})
	if err != nil || len(rules.SecurityGroupRules) != 2 {
		t.Errorf("%+v, %v", rules, err)
	}
	if _, err := client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &peer}); err != nil {
		t.Errorf("what no rule names any more: %v", err)
	}
}

func TestInstancesAreInTheirGroups(t *testing.T) {
	l := newLab(t)
	id := l.group(t, "nodes")
	ran, err := l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{id} }))
	if err != nil || *ran.Instances[0].SecurityGroups[0].GroupName != "nodes" {
		t.Fatalf("%+v, %v", ran, err)
	}
	_, err = l.admin().DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: &id})
	refused(t, err, "DependencyViolation", id)
	found, err := l.admin().DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance.group-id"), Values: []string{id}}}})
	if err != nil || len(found.Reservations) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = l.admin().RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-0fffffffffffffff"} }))
	refused(t, err, "InvalidGroup.NotFound", "sg-0fffffffffffffff")
}

func TestSecurityGroupsAreRefusedWhatEC2Refuses(t *testing.T) {
	l := newLab(t)
	client, ctx := l.admin(), t.Context()
	id := l.group(t, "nodes")
	for name, c := range map[string]struct {
		in            ec2.CreateSecurityGroupInput
		code, message string
	}{
		"no VPC":              {ec2.CreateSecurityGroupInput{GroupName: aws.String("a")}, "VPCIdNotSpecified", ""},
		"an unknown VPC":      {ec2.CreateSecurityGroupInput{GroupName: aws.String("a"), VpcId: aws.String("vpc-1")}, "InvalidVpcID.NotFound", "vpc-1"},
		"a name that is used": {ec2.CreateSecurityGroupInput{GroupName: aws.String("nodes"), VpcId: aws.String(theVPC)}, "InvalidGroup.Duplicate", "nodes"},
		"the default's name":  {ec2.CreateSecurityGroupInput{GroupName: aws.String("default"), VpcId: aws.String(theVPC)}, "InvalidGroup.Duplicate", "default"},
		"a name like an ID":   {ec2.CreateSecurityGroupInput{GroupName: aws.String("sg-1"), VpcId: aws.String(theVPC)}, "InvalidParameterValue", "sg-1"},
		"a name in Greek":     {ec2.CreateSecurityGroupInput{GroupName: aws.String("αβγ"), VpcId: aws.String(theVPC)}, "InvalidParameterValue", "ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Description = aws.String("d")
			_, err := client.CreateSecurityGroup(ctx, &c.in)
			refused(t, err, c.code, c.message)
		})
	}
	many := make([]types.IpPermission, 0, maxRules+1)
	for port := range int32(maxRules + 1) {
		many = append(many, tcp(port+1, "10.0.0.0/8"))
	}
	for name, c := range map[string]struct {
		permissions   []types.IpPermission
		code, message string
	}{
		"nothing":               {nil, "MissingParameter", "ipPermissions"},
		"no peer":               {[]types.IpPermission{{IpProtocol: aws.String("-1")}}, "InvalidParameterValue", "names no range"},
		"a range that is none":  {[]types.IpPermission{tcp(80, "10.0.0.0")}, "InvalidParameterValue", "10.0.0.0"},
		"a port too high":       {[]types.IpPermission{tcp(70000, "10.0.0.0/8")}, "InvalidParameterValue", "70000"},
		"an unknown protocol":   {[]types.IpPermission{{IpProtocol: aws.String("carrier"), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}}}, "InvalidPermission.Malformed", "carrier"},
		"an unknown group":      {[]types.IpPermission{{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-00000000")}}}}, "InvalidGroup.NotFound", "sg-00000000"},
		"a prefix list":         {[]types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}, PrefixListIds: []types.PrefixListId{{PrefixListId: aws.String("pl-1")}}}}, "UnknownParameter", "PrefixListIds"},
		"the same twice":        {[]types.IpPermission{tcp(80, "10.0.0.0/8"), tcp(80, "10.1.0.0/8")}, "InvalidParameterValue", "multiple times"},
		"more than a group has": {many, "RulesPerSecurityGroupLimitExceeded", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: c.permissions})
			refused(t, err, c.code, c.message)
		})
	}
	all, err := client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{theVPC}}, {Name: aws.String("group-name"), Values: []string{"default"}}}})
	if err != nil || len(all.SecurityGroups) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	_, err = client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: all.SecurityGroups[0].GroupId})
	refused(t, err, "CannotDelete", "default")
	_, err = client.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String("group")})
	refused(t, err, "InvalidGroupId.Malformed", "group")
}

func TestWhatIsMadeIsTagged(t *testing.T) {
	l := newLab(t)
	group := l.group(t, "nodes")
	ran, err := l.admin().RunInstances(t.Context(), runInput())
	if err != nil {
		t.Fatal(err)
	}
	i := ran.Instances[0]
	ids := []string{group, *i.InstanceId, *i.BlockDeviceMappings[0].Ebs.VolumeId, *i.NetworkInterfaces[0].NetworkInterfaceId}
	tag := []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}
	if _, err := l.admin().CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: ids, Tags: tag}); err != nil {
		t.Fatal(err)
	}
	byTeam := &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("tag:team"), Values: []string{"a"}}}}
	if out, err := l.admin().DescribeTags(t.Context(), byTeam); err != nil || len(out.Tags) != len(ids) {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := l.admin().DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: ids, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("b")}}}); err != nil {
		t.Error(err)
	}
	if _, err := l.admin().DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: ids[:3], Tags: tag}); err != nil {
		t.Error(err)
	}
	if out, err := l.admin().DescribeTags(t.Context(), byTeam); err != nil || len(out.Tags) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = l.admin().CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{"vol-0fffffffffffffff"}, Tags: tag})
	refused(t, err, "InvalidVolume.NotFound", "vol-0fffffffffffffff")
}
