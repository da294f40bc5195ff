package ec2

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
)

func (l lab) resourceType(t *testing.T, name string) resource.Handler {
	t.Helper()
	for _, known := range l.service.ResourceTypes() {
		if known.Name == "AWS::EC2::"+name {
			return known.Handler
		}
	}
	t.Fatalf("no type %s", name)
	return nil
}

// request is a resource of a stack.
func request(token string, properties map[string]any) resource.Request {
	return resource.Request{
		Stack: "s", LogicalID: "R", Token: token, Name: "s-R-" + token, Properties: properties,
		Tags: map[string]string{"aws:cloudformation:stack-name": "s", "team": "a"},
	}
}

func create(t *testing.T, h resource.Handler, r resource.Request) string {
	t.Helper()
	id, err := h.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Create(t.Context(), r); err != nil || again != id {
		t.Fatalf("the same step again made %s, %v, not %s", again, err, id)
	}
	return id
}

func attribute(t *testing.T, h resource.Handler, id, name, want string) {
	t.Helper()
	if got, err := h.Attribute(t.Context(), id, name); err != nil || got != want {
		t.Errorf("%s of %s is %v, %v; want %s", name, id, got, err, want)
	}
}

func TestAChangedTemplateOfAStackIsANewVersion(t *testing.T) {
	l := newLab(t)
	h := l.resourceType(t, "LaunchTemplate")
	properties := func(kind string) map[string]any {
		return map[string]any{"LaunchTemplateData": map[string]any{"InstanceType": kind, "ImageId": "resolve:ssm:/golden",
			"MetadataOptions": map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": "1"}}}
	}
	r := request("one", properties("t3.small"))
	id := create(t, h, r)
	attribute(t, h, id, "LatestVersionNumber", "1")
	update := request("two", properties("t3.large"))
	update.Before = r.Properties
	for range 2 { // the second is the same step again
		if err := h.Update(t.Context(), id, update); err != nil {
			t.Fatal(err)
		}
	}
	attribute(t, h, id, "LatestVersionNumber", "2")
	attribute(t, h, id, "DefaultVersionNumber", "1")
	found, version, err := l.service.templateVersion(id, "$Latest")
	if err != nil || version.Data.InstanceType != "t3.large" || found.Name != "s-R-one" || found.Tags["aws:cloudformation:stack-name"] != "s" {
		t.Errorf("%+v, %v", found, err)
	}
	for range 2 {
		if err := h.Delete(t.Context(), id, r); err != nil {
			t.Error(err)
		}
	}
	if err := h.Update(t.Context(), id, update); err != resource.ErrNotFound { //nolint:errorlint // as the interface says
		t.Errorf("an update of what is gone: %v", err)
	}
}

func TestTheRulesOfAStacksGroupFollowItsTemplate(t *testing.T) {
	l := newLab(t)
	groups, rules := l.resourceType(t, "SecurityGroup"), l.resourceType(t, "SecurityGroupIngress")
	ingress := func(ports ...string) map[string]any {
		var list []any
		for _, port := range ports {
			list = append(list, map[string]any{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "CidrIp": "10.0.0.0/16"})
		}
		return map[string]any{"GroupDescription": "nodes", "VpcId": theVPC, "SecurityGroupIngress": list}
	}
	r := request("one", ingress("443", "10250"))
	id := create(t, groups, r)
	attribute(t, groups, id, "VpcId", theVPC)
	own := request("two", map[string]any{"GroupId": id, "IpProtocol": "-1", "SourceSecurityGroupId": id, "Description": "each other"})
	rule := create(t, rules, own)
	update := request("three", ingress("443", "22"))
	update.Before = r.Properties
	if err := groups.Update(t.Context(), id, update); err != nil {
		t.Fatal(err)
	}
	out, err := l.admin().DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	var ports []int32
	for _, p := range out.SecurityGroups[0].IpPermissions {
		if p.FromPort != nil {
			ports = append(ports, *p.FromPort)
		}
	}
	if !reflect.DeepEqual(ports, []int32{443, 22}) || len(out.SecurityGroups[0].IpPermissions) != 3 || len(out.SecurityGroups[0].Tags) != 2 {
		t.Errorf("%v of %+v", ports, out.SecurityGroups[0])
	}
	if err := rules.Delete(t.Context(), rule, own); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := groups.Delete(t.Context(), id, r); err != nil {
			t.Error(err)
		}
	}
	_, err = rules.Create(t.Context(), request("four", map[string]any{"GroupId": id, "IpProtocol": "-1"}))
	if err == nil || !strings.Contains(err.Error(), "exactly one") {
		t.Errorf("a rule without a peer: %v", err)
	}
}

func TestAnInterfaceOfAStackKeepsItsAddressThroughUpdates(t *testing.T) {
	l := newLab(t)
	h := l.resourceType(t, "NetworkInterface")
	first, second := l.group(t, "first"), l.group(t, "second")
	properties := func(description string, groups ...any) map[string]any {
		return map[string]any{
			"SubnetId": subnetB, "PrivateIpAddress": "10.0.16.200", "Description": description, "GroupSet": groups, "SourceDestCheck": "true",
			"Tags": []any{map[string]any{"Key": "Name", "Value": description}},
		}
	}
	r := request("one", properties("old", first))
	id := create(t, h, r)
	attribute(t, h, id, "Id", id)
	attribute(t, h, id, "PrimaryPrivateIpAddress", "10.0.16.200")
	attribute(t, h, id, "VpcId", theVPC)
	update := request("two", properties("new", second))
	update.Before = r.Properties
	if err := h.Update(t.Context(), id, update); err != nil {
		t.Fatal(err)
	}
	n := l.networkInterface(t, id)
	if *n.Description != "new" || len(n.Groups) != 1 || *n.Groups[0].GroupId != second || !hasTag(n.TagSet, "Name", "new") || !hasTag(n.TagSet, "aws:cloudformation:stack-name", "s") {
		t.Errorf("%+v", n)
	}
	plain := request("three", map[string]any{"SubnetId": subnetB, "PrivateIpAddress": "10.0.16.200"})
	plain.Before = update.Properties
	if err := h.Update(t.Context(), id, plain); err != nil {
		t.Fatal(err)
	}
	if n := l.networkInterface(t, id); *n.Description != "" || *n.Groups[0].GroupName != "default" {
		t.Errorf("%+v", n)
	}
	if _, err := h.Create(t.Context(), request("four", map[string]any{"SubnetId": subnetB, "PrivateIpAddress": "10.0.16.200"})); err == nil || !strings.HasPrefix(err.Error(), "InvalidIPAddress.InUse") {
		t.Errorf("a second one of the same address: %v", err)
	}
	for range 2 {
		if err := h.Delete(t.Context(), id, r); err != nil {
			t.Error(err)
		}
	}
	if err := h.Update(t.Context(), id, update); !errors.Is(err, resource.ErrNotFound) {
		t.Errorf("an update of what is gone: %v", err)
	}
}

func TestVolumesAndAddressesOfAStackComeAndGo(t *testing.T) {
	l := newLab(t, sample(1, fleet.Stopped, nil))
	instance := sample(1, "", nil).ID
	volumes, addresses, links := l.resourceType(t, "Volume"), l.resourceType(t, "EIP"), l.resourceType(t, "EIPAssociation")
	disk := request("one", map[string]any{"AvailabilityZone": "us-west-2b", "Size": "20", "VolumeType": "gp3", "Encrypted": "true"})
	volume := create(t, volumes, disk)
	attribute(t, volumes, volume, "VolumeId", volume)
	ip := create(t, addresses, request("two", map[string]any{"Domain": "vpc"}))
	allocation, err := addresses.Attribute(t.Context(), ip, "AllocationId")
	if err != nil {
		t.Fatal(err)
	}
	association := request("three", map[string]any{"AllocationId": allocation, "InstanceId": instance})
	link := create(t, links, association)
	if err := addresses.Delete(t.Context(), ip, resource.Request{}); err == nil || !strings.HasPrefix(err.Error(), "InvalidIPAddress.InUse") {
		t.Errorf("an address in use is released: %v", err)
	}
	out, err := l.admin().DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
	if err != nil || *out.Addresses[0].InstanceId != instance || *out.Addresses[0].PublicIp != ip {
		t.Errorf("%+v, %v", out, err)
	}
	for range 2 {
		for _, made := range []struct {
			of resource.Handler
			id string
		}{{links, link}, {volumes, volume}, {addresses, ip}} {
			if err := made.of.Delete(t.Context(), made.id, resource.Request{}); err != nil {
				t.Error(err)
			}
		}
	}
}
