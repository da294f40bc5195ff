package ec2

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// workerTemplate is a launch template as a worker has one.
func workerTemplate(change ...func(*types.RequestLaunchTemplateData)) *ec2.CreateLaunchTemplateInput {
	tags := func(kind types.ResourceType) types.LaunchTemplateTagSpecificationRequest {
		return types.LaunchTemplateTagSpecificationRequest{ResourceType: kind, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("worker")}, {Key: aws.String("of"), Value: aws.String(string(kind))}}}
	}
	data := &types.RequestLaunchTemplateData{
		ImageId: aws.String("resolve:ssm:/golden"), InstanceType: types.InstanceTypeT3Medium,
		IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("ovenbird-node")},
		UserData:           aws.String(base64.StdEncoding.EncodeToString([]byte("hello"))),
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
			DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(false), DeleteOnTermination: aws.Bool(true),
		}},
		BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{
			VolumeType: types.VolumeTypeGp3, VolumeSize: aws.Int32(20), Iops: aws.Int32(4000), Throughput: aws.Int32(250),
			Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/worker"), DeleteOnTermination: aws.Bool(true),
		}}},
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpTokens: types.LaunchTemplateHttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
			HttpEndpoint: types.LaunchTemplateInstanceMetadataEndpointStateEnabled, InstanceMetadataTags: types.LaunchTemplateInstanceMetadataTagsStateEnabled,
		},
		Monitoring: &types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)}, EbsOptimized: aws.Bool(true),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{
			tags(types.ResourceTypeInstance), tags(types.ResourceTypeVolume), tags(types.ResourceTypeNetworkInterface),
		},
	}
	for _, c := range change {
		c(data)
	}
	return &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("workers"), VersionDescription: aws.String("first"), LaunchTemplateData: data}
}

func byTemplate(version string) *ec2.RunInstancesInput {
	return &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("workers"), Version: &version},
	}
}

func TestAnInstanceIsLaunchedFromATemplate(t *testing.T) {
	l := newLab(t)
	made, err := l.admin().CreateLaunchTemplate(t.Context(), workerTemplate(func(d *types.RequestLaunchTemplateData) { d.NetworkInterfaces[0].SubnetId = aws.String(subnetB) }))
	if err != nil {
		t.Fatal(err)
	}
	in := byTemplate("$Latest")
	in.InstanceType = types.InstanceTypeT3Large
	in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("mine")}}}}
	ran, err := l.admin().RunInstances(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	got := l.fleet.Instances()[0]
	for what, pair := range map[string][2]string{
		"image": {got.ImageID, ami}, "type": {got.Type, "t3.large"}, "profile": {got.Profile, "ovenbird-node"}, "user data": {string(got.UserData), "hello"},
		"subnet": {got.SubnetID, subnetB}, "name": {got.Tags["Name"], "mine"}, "its own tag": {got.Tags["of"], "instance"},
		"template": {got.Tags["aws:ec2launchtemplate:id"], *made.LaunchTemplate.LaunchTemplateId}, "version": {got.Tags["aws:ec2launchtemplate:version"], "1"},
		"volume's tag": {got.VolumeTags["of"], "volume"}, "interface's tag": {got.InterfaceTags["of"], "network-interface"}, "group": {got.Groups[0].Name, "default"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	kind := fleet.VolumeKind{Type: "gp3", IOPS: 4000, Throughput: 250, Encrypted: true, KMSKey: "alias/worker"}
	if got.VolumeGiB != 20 || got.Volume != kind || !got.MetadataTags || !got.TerminateOnShutdown || !got.Monitoring || !got.EBSOptimized {
		t.Errorf("%+v", got)
	}
	if i := ran.Instances[0]; i.Monitoring.State != types.MonitoringStateEnabled || *i.SecurityGroups[0].GroupName != "default" || *i.NetworkInterfaces[0].Groups[0].GroupId != *i.SecurityGroups[0].GroupId {
		t.Errorf("%+v", i)
	}
	tags, err := l.admin().DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("key"), Values: []string{"of"}}}})
	if err != nil || len(tags.Tags) != 3 {
		t.Errorf("%v, %v", tags, err)
	}
}

func TestATemplateAnswersWhatItWasGiven(t *testing.T) {
	client := newLab(t).admin()
	want := workerTemplate()
	if _, err := client.CreateLaunchTemplate(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String("workers"), ResolveAlias: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	v := out.LaunchTemplateVersions[0]
	d, w := v.LaunchTemplateData, want.LaunchTemplateData
	ebs, wantEBS := d.BlockDeviceMappings[0].Ebs, w.BlockDeviceMappings[0].Ebs
	for what, ok := range map[string]bool{
		"description":  *v.VersionDescription == "first" && *v.DefaultVersion && *v.VersionNumber == 1 && strings.HasSuffix(*v.CreatedBy, "user/admin"),
		"image":        *d.ImageId == ami,
		"profile":      *d.IamInstanceProfile.Name == *w.IamInstanceProfile.Name,
		"user data":    *d.UserData == *w.UserData,
		"interface":    *d.NetworkInterfaces[0].DeviceIndex == 0 && !*d.NetworkInterfaces[0].AssociatePublicIpAddress,
		"volume":       *ebs.VolumeSize == *wantEBS.VolumeSize && *ebs.Iops == *wantEBS.Iops && *ebs.Encrypted && *ebs.KmsKeyId == *wantEBS.KmsKeyId,
		"metadata":     d.MetadataOptions.HttpTokens == w.MetadataOptions.HttpTokens && *d.MetadataOptions.HttpPutResponseHopLimit == 1,
		"tags":         len(d.TagSpecifications) == 3 && *d.TagSpecifications[1].Tags[1].Value == "volume",
		"shutdown":     d.InstanceInitiatedShutdownBehavior == w.InstanceInitiatedShutdownBehavior,
		"optimization": *d.EbsOptimized && *d.Monitoring.Enabled,
	} {
		if !ok {
			t.Errorf("the %s came back otherwise: %+v", what, d)
		}
	}
}

func TestVersionsOfATemplateAreNumberedAndChosen(t *testing.T) {
	client := newLab(t).admin()
	ctx := t.Context()
	name := aws.String("workers")
	if _, err := client.CreateLaunchTemplate(ctx, workerTemplate()); err != nil {
		t.Fatal(err)
	}
	for n, kind := range []types.InstanceType{"t3.small", "t3.large"} {
		out, err := client.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{
			LaunchTemplateName: name, SourceVersion: aws.String("1"), LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: kind},
		})
		if err != nil || *out.LaunchTemplateVersion.VersionNumber != int64(n+2) || *out.LaunchTemplateVersion.LaunchTemplateData.UserData == "" {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if _, err := client.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: name, DefaultVersion: aws.String("2")}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   ec2.DescribeLaunchTemplateVersionsInput
		want []int64
	}{
		{ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: name}, []int64{3, 2, 1}},
		{ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: name, MinVersion: aws.String("2")}, []int64{3, 2}},
		{ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: name, MaxVersion: aws.String("2")}, []int64{2, 1}},
		{ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: name, Versions: []string{"$Default", "1"}}, []int64{2, 1}},
		{ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}}, []int64{3}},
	} {
		out, err := client.DescribeLaunchTemplateVersions(ctx, &c.in)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, v := range out.LaunchTemplateVersions {
			got = append(got, *v.VersionNumber)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.in, got, c.want)
		}
	}
	gone, err := client.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateName: name, Versions: []string{"3", "2", "9"}})
	if err != nil || len(gone.SuccessfullyDeletedLaunchTemplateVersions) != 1 || len(gone.UnsuccessfullyDeletedLaunchTemplateVersions) != 2 {
		t.Errorf("%+v, %v", gone, err)
	}
	out, err := client.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"workers"}})
	if err != nil || *out.LaunchTemplates[0].LatestVersionNumber != 2 || *out.LaunchTemplates[0].DefaultVersionNumber != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := client.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: name}); err != nil {
		t.Error(err)
	}
	_, err = client.RunInstances(ctx, byTemplate("1"))
	refused(t, err, "InvalidLaunchTemplateName.NotFoundException", "workers")
}

func TestTemplatesAreRefusedWhatTheLabDoesNotHave(t *testing.T) {
	client := newLab(t).admin()
	for name, c := range map[string]struct {
		change  func(*types.RequestLaunchTemplateData)
		code    string
		message string
	}{
		"a key": {func(d *types.RequestLaunchTemplateData) { d.KeyName = aws.String("k") }, "UnknownParameter", "LaunchTemplateData.KeyName"},
		"credits": {func(d *types.RequestLaunchTemplateData) {
			d.CreditSpecification = &types.CreditSpecificationRequest{CpuCredits: aws.String("standard")}
		}, "UnknownParameter", "CreditSpecification"},
		"a public place": {func(d *types.RequestLaunchTemplateData) {
			d.NetworkInterfaces[0].AssociatePublicIpAddress = aws.Bool(true)
		}, "UnsupportedOperation", "AssociatePublicIpAddress"},
		"no device":    {func(d *types.RequestLaunchTemplateData) { d.NetworkInterfaces[0].DeviceIndex = nil }, "InvalidParameterValue", "device index"},
		"groups twice": {func(d *types.RequestLaunchTemplateData) { d.SecurityGroupIds = []string{"sg-00000000"} }, "InvalidParameterCombination", "security groups"},
		"a second hop": {func(d *types.RequestLaunchTemplateData) { d.MetadataOptions.HttpPutResponseHopLimit = aws.Int32(2) }, "InvalidParameterValue", "HttpPutResponseHopLimit"},
		"no tokens": {func(d *types.RequestLaunchTemplateData) {
			d.MetadataOptions.HttpTokens = types.LaunchTemplateHttpTokensStateOptional
		}, "InvalidParameterValue", "HttpTokens"},
		"raw user data": {func(d *types.RequestLaunchTemplateData) { d.UserData = aws.String("%") }, "InvalidUserData.Malformed", ""},
		"slow IOPS":     {func(d *types.RequestLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.Iops = aws.Int32(100) }, "InvalidParameterValue", "iops"},
		"much IOPS":     {func(d *types.RequestLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.Iops = aws.Int32(16000) }, "InvalidParameterCombination", "ratio"},
		"fast":          {func(d *types.RequestLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.Throughput = aws.Int32(1500) }, "InvalidParameterValue", "ratio"},
		"half a key":    {func(d *types.RequestLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.Encrypted = nil }, "InvalidParameterDependency", "Encrypted"},
		"IOPS of gp2":   {func(d *types.RequestLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.VolumeType = "gp2" }, "InvalidParameterCombination", "gp2"},
		"a spot tag": {func(d *types.RequestLaunchTemplateData) {
			d.TagSpecifications[1].ResourceType = types.ResourceTypeSpotInstancesRequest
		}, "InvalidParameterCombination", "spot"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.CreateLaunchTemplate(t.Context(), workerTemplate(c.change))
			refused(t, err, c.code, c.message)
		})
	}
	bad := workerTemplate()
	bad.LaunchTemplateName = aws.String("a b")
	_, err := client.CreateLaunchTemplate(t.Context(), bad)
	refused(t, err, "InvalidLaunchTemplateName.MalformedException", "a b")
	if _, err := client.CreateLaunchTemplate(t.Context(), workerTemplate()); err != nil {
		t.Fatal(err)
	}
	_, err = client.CreateLaunchTemplate(t.Context(), workerTemplate())
	refused(t, err, "InvalidLaunchTemplateName.AlreadyExistsException", "")
	_, err = client.RunInstances(t.Context(), byTemplate("7"))
	refused(t, err, "InvalidLaunchTemplateId.VersionNotFound", "version 7")
	both := byTemplate("1")
	both.SubnetId = aws.String(subnetB)
	_, err = client.RunInstances(t.Context(), both)
	refused(t, err, "InvalidParameterCombination", "SubnetId")
}

func TestTheInventoryOutlivesTheLab(t *testing.T) {
	l := newLab(t)
	if _, err := l.admin().CreateLaunchTemplate(t.Context(), workerTemplate()); err != nil {
		t.Fatal(err)
	}
	again := &Inventory{Path: l.dir.Inventory()}
	if err := again.Open(); err != nil {
		t.Fatal(err)
	}
	service := Service{Plan: vpc.Default(), Fleet: l.fleet, Inventory: again}
	found, version, err := service.templateVersion("workers", "$Latest")
	if err != nil || found.Name != "workers" || *version.Data.BlockDeviceMappings[0].EBS.VolumeSize != 20 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestAGroupLaunchesFromATemplate(t *testing.T) {
	l := newLab(t)
	if _, err := l.admin().CreateLaunchTemplate(t.Context(), workerTemplate()); err != nil {
		t.Fatal(err)
	}
	var launcher autoscaling.Launcher = Launcher{Service: l.service}
	found, err := launcher.Resolve("workers", "")
	if err != nil || found.Version != 1 || found.InstanceType != "t3.medium" {
		t.Fatalf("%+v, %v", found, err)
	}
	launch := autoscaling.Launch{
		Template: found, Type: "t3.small", SubnetID: subnetB, Tags: map[string]string{"aws:autoscaling:groupName": "g", "Name": "of-group"}, Spot: true, Token: "once",
	}
	first, err := launcher.Launch(t.Context(), launch)
	if err != nil {
		t.Fatal(err)
	}
	if first.Type != "t3.small" || first.Tags["aws:autoscaling:groupName"] != "g" || first.Tags["Name"] != "of-group" || first.Tags["of"] != "instance" || first.Spot != fleet.InterruptionTerminate || first.SubnetID != subnetB {
		t.Errorf("%+v", first)
	}
	if again, err := launcher.Launch(t.Context(), launch); err != nil || again.ID != first.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	for _, c := range []struct{ name, version, code string }{
		{"none", "1", "InvalidLaunchTemplateName.NotFoundException"}, {"lt-00000000", "1", "InvalidLaunchTemplateId.NotFound"},
		{"workers", strconv.Itoa(found.Version + 1), "InvalidLaunchTemplateId.VersionNotFound"}, {"workers", "new", "InvalidLaunchTemplateVersion.Malformed"},
	} {
		if _, err := launcher.Resolve(c.name, c.version); err == nil || !strings.HasPrefix(err.Error(), c.code) {
			t.Errorf("%s %s: %v", c.name, c.version, err)
		}
	}
}
