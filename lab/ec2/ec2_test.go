package ec2

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/internal/sdktest"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

const (
	subnetB = "subnet-0bbbbbbbbbbbbbbbb"
	ami     = "ami-0123456789abcdef0"
)

// lab is EC2 over TLS before a real fleet whose instances nobody drives: they stay in the
// state in which they were recorded.
type lab struct {
	server  *httptest.Server
	fleet   *fleet.Fleet
	catalog *catalog.Catalog
	plan    vpc.Plan
	service Service
	dir     state.Dir
}

func newLab(t *testing.T, instances ...fleet.Instance) lab {
	t.Helper()
	dir := state.Dir(t.TempDir())
	if err := state.WriteJSON(dir.Fleet(), instances, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := vpc.Default()
	networks, err := vpc.Open(plan, dir.Networks())
	if err != nil {
		t.Fatal(err)
	}
	plan.Networks = networks
	f, err := fleet.Open(fleet.Options{Plan: plan, Dir: dir, Now: time.Now, Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(catalog.Options{
		Dir: string(dir), Account: vpc.Default().Account, Regions: vpc.Default().Regions(), Now: time.Now, Logger: zaptest.NewLogger(t),
		Baked: func() []catalog.Image { return []catalog.Image{{ID: ami, RootDevice: "/dev/xvda", Size: 5<<30 + 1}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	inventory := &Inventory{Path: dir.Inventory()}
	if err := inventory.Open(); err != nil {
		t.Fatal(err)
	}
	service := Service{
		Plan: plan, Fleet: f, Catalog: c, Inventory: inventory, Profiles: func(name string) bool { return name == "ovenbird-node" },
		Parameter: func(_, name string) (string, bool) { return ami, name == "/golden" },
	}
	server := httptest.NewTLSServer(wire.Endpoint{
		Services: []wire.Service{service},
		Keys: sdktest.Keys{
			"AKIA": {AccessKeyID: "AKIA", SecretAccessKey: "secret", ARN: "arn:aws:iam::111122223333:user/admin"},
			"ASIA": {AccessKeyID: "ASIA", SecretAccessKey: "secret", SessionToken: "t", ARN: "arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-1"},
		},
		Regions: vpc.Default().Regions(), Now: time.Now, Logger: zaptest.NewLogger(t),
	})
	t.Cleanup(server.Close)
	return lab{server, f, c, plan, service, dir}
}

func (l lab) as(key, secret, token string) *ec2.Client {
	return ec2.New(ec2.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(l.server.URL), HTTPClient: sdktest.Client(l.server), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, token),
	})
}

func (l lab) admin() *ec2.Client { return l.as("AKIA", "secret", "") }

// sample is a recorded instance; n makes it differ from others.
func sample(n int, state fleet.State, tags map[string]string) fleet.Instance {
	return fleet.Instance{
		ID: fmt.Sprintf("i-%017x", n), ReservationID: fmt.Sprintf("r-%017x", n), ImageID: ami, Type: "t3.medium",
		SubnetID: subnetB, Zone: "us-west-2b", Address: netip.AddrFrom4([4]byte{10, 0, 16, byte(100 + n)}),
		MAC: fmt.Sprintf("02:00:00:00:00:%02x", n), InterfaceID: "eni-1", VolumeID: "vol-1", Tags: tags,
		Profile: "ovenbird-node", State: state, LaunchTime: time.Unix(1700000000+int64(n), 0).UTC(),
	}
}

func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}

func runInput(change ...func(*ec2.RunInstancesInput)) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ImageId: aws.String(ami), InstanceType: types.InstanceTypeT3Medium, SubnetId: aws.String(subnetB),
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	}
	for _, c := range change {
		c(in)
	}
	return in
}

func TestTheSDKRunsDescribesAndTerminatesInstances(t *testing.T) {
	l := newLab(t)
	client := l.admin()
	ran, err := client.RunInstances(t.Context(), runInput(func(in *ec2.RunInstancesInput) {
		in.MaxCount = aws.Int32(2)
		in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("hello")))
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("ovenbird-node")}
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance,
			Tags: []types.Tag{{Key: aws.String("kubernetes.io/cluster/demo"), Value: aws.String("owned")}}}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(ran.Instances) != 2 || *ran.OwnerId != "111122223333" {
		t.Fatalf("ran %+v", ran)
	}
	id := *ran.Instances[1].InstanceId
	if record := l.fleet.Instances()[1]; string(record.UserData) != "hello" || record.VolumeGiB != 6 {
		t.Errorf("user data %q, volume %d GiB", record.UserData, record.VolumeGiB)
	}

	described, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	got := described.Reservations[0].Instances[0]
	for what, pair := range map[string][2]string{
		"state":   {string(got.State.Name), "pending"},
		"name":    {*got.PrivateDnsName, "ip-" + strings.ReplaceAll(*got.PrivateIpAddress, ".", "-") + ".us-west-2.compute.internal"},
		"vpc":     {*got.VpcId, "vpc-0a1b2c3d4e5f60718"},
		"subnet":  {*got.SubnetId, subnetB},
		"zone":    {*got.Placement.AvailabilityZone, "us-west-2b"},
		"profile": {*got.IamInstanceProfile.Arn, "arn:aws:iam::111122223333:instance-profile/ovenbird-node"},
		"tag":     {*got.Tags[0].Key + "=" + *got.Tags[0].Value, "kubernetes.io/cluster/demo=owned"},
		"address": {*got.NetworkInterfaces[0].PrivateIpAddresses[0].PrivateIpAddress, *got.PrivateIpAddress},
		"tokens":  {string(got.MetadataOptions.HttpTokens), "required"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if time.Since(*got.LaunchTime) > time.Minute {
		t.Errorf("launched %s", got.LaunchTime)
	}

	ended, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	change := ended.TerminatingInstances[0]
	if change.PreviousState.Name != types.InstanceStateNamePending || change.CurrentState.Name != types.InstanceStateNameShuttingDown || *change.CurrentState.Code != 32 {
		t.Errorf("%+v -> %+v", *change.PreviousState, *change.CurrentState)
	}
}

func TestRunInstancesRefusesWhatEC2Refuses(t *testing.T) {
	client := newLab(t, sample(7, fleet.Running, nil)).admin()
	for name, c := range map[string]struct {
		change  func(*ec2.RunInstancesInput)
		code    string
		message string
	}{
		"no image":          {func(in *ec2.RunInstancesInput) { in.ImageId = nil }, "MissingParameter", "ImageId"},
		"a malformed image": {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("image") }, "InvalidAMIID.Malformed", "image"},
		"an unknown image":  {func(in *ec2.RunInstancesInput) { in.ImageId = aws.String("ami-00000000") }, "InvalidAMIID.NotFound", "ami-00000000"},
		"an unknown type":   {func(in *ec2.RunInstancesInput) { in.InstanceType = "x9.huge" }, "InvalidParameterValue", "x9.huge"},
		"no subnet":         {func(in *ec2.RunInstancesInput) { in.SubnetId = nil }, "VPCIdNotSpecified", ""},
		"an unknown subnet": {func(in *ec2.RunInstancesInput) { in.SubnetId = aws.String("subnet-1") }, "InvalidSubnetID.NotFound", "subnet-1"},
		"another zone": {func(in *ec2.RunInstancesInput) {
			in.Placement = &types.Placement{AvailabilityZone: aws.String("us-west-2a")}
		}, "InvalidParameterValue", "us-west-2a"},
		"more at least than most":      {func(in *ec2.RunInstancesInput) { in.MinCount = aws.Int32(2) }, "InvalidParameterValue", "MinCount"},
		"none at all":                  {func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = aws.Int32(0), aws.Int32(0) }, "InvalidParameterValue", "MinCount"},
		"too many":                     {func(in *ec2.RunInstancesInput) { in.MinCount, in.MaxCount = aws.Int32(50), aws.Int32(50) }, "InstanceLimitExceeded", "50"},
		"user data that is not base64": {func(in *ec2.RunInstancesInput) { in.UserData = aws.String("%") }, "InvalidUserData.Malformed", ""},
		"user data above 16 KiB": {func(in *ec2.RunInstancesInput) {
			in.UserData = aws.String(base64.StdEncoding.EncodeToString(make([]byte, 16<<10+1)))
		}, "InvalidParameterValue", "16384"},
		"an unknown profile": {func(in *ec2.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("other")}
		}, "InvalidParameterValue", "iamInstanceProfile.name"},
		"an address outside of the subnet": {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.0.0.50") }, "InvalidParameterValue", "10.0.0.50"},
		"the router's address":             {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.0.16.1") }, "InvalidParameterValue", "10.0.16.1"},
		"an address in use":                {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = aws.String("10.0.16.107") }, "InvalidIPAddress.InUse", "10.0.16.107"},
		"one address for two": {func(in *ec2.RunInstancesInput) {
			in.PrivateIpAddress, in.MaxCount = aws.String("10.0.16.50"), aws.Int32(2)
		}, "InvalidParameterCombination", "MaxCount"},
		"a reserved tag": {tagged("aws:x"), "InvalidParameterValue", "aws:"},
		"a tag that the metadata service cannot show": {func(in *ec2.RunInstancesInput) {
			tagged("kubernetes.io/cluster/demo")(in)
			in.MetadataOptions = &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled}
		}, "InvalidParameterValue", "'kubernetes.io/cluster/demo' is not a valid tag key"},
		"metadata without tokens": {func(in *ec2.RunInstancesInput) {
			in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateOptional}
		}, "InvalidParameterValue", "HttpTokens"},
		"a volume smaller than its image": {func(in *ec2.RunInstancesInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(5)}}}
		}, "InvalidBlockDeviceMapping", "expect size >= 6GB"},
		"what the lab does not have": {func(in *ec2.RunInstancesInput) { in.KeyName = aws.String("key") }, "UnknownParameter", "KeyName"},
		"a rehearsal":                {func(in *ec2.RunInstancesInput) { in.DryRun = aws.Bool(true) }, "DryRunOperation", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.RunInstances(t.Context(), runInput(c.change))
			refused(t, err, c.code, c.message)
		})
	}
}

func tagged(key string) func(*ec2.RunInstancesInput) {
	return func(in *ec2.RunInstancesInput) {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: &key, Value: aws.String("v")}}}}
	}
}

func TestAClientTokenMakesRunInstancesIdempotent(t *testing.T) {
	client := newLab(t).admin()
	token := func(in *ec2.RunInstancesInput) { in.ClientToken = aws.String("once") }
	first, err := client.RunInstances(t.Context(), runInput(token))
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.RunInstances(t.Context(), runInput(token))
	if err != nil || *again.Instances[0].InstanceId != *first.Instances[0].InstanceId {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = client.RunInstances(t.Context(), runInput(token, tagged("other")))
	refused(t, err, "IdempotentParameterMismatch", "")
}

func TestDescribeInstancesFilters(t *testing.T) {
	client := newLab(t,
		sample(1, fleet.Running, map[string]string{"Name": "one", "kubernetes.io/cluster/demo": "owned"}),
		sample(2, fleet.Stopped, map[string]string{"Name": "two"}),
		sample(3, fleet.Terminated, map[string]string{"Name": "three"}),
	).admin()
	for _, c := range []struct {
		name   string
		values []string
		want   []int
	}{
		{"instance-state-name", []string{"running", "stopped"}, []int{1, 2}},
		{"instance-state-code", []string{"48"}, []int{3}},
		{"instance-id", []string{"i-00000000000000002"}, []int{2}},
		{"private-dns-name", []string{"ip-10-0-16-101.us-west-2.compute.internal"}, []int{1}},
		{"private-ip-address", []string{"10.0.16.10?"}, []int{1, 2}},
		{"vpc-id", []string{"vpc-0a1b2c3d4e5f60718"}, []int{1, 2}},
		{"subnet-id", []string{subnetB}, []int{1, 2}},
		{"tag:Name", []string{"t*"}, []int{2, 3}},
		{"tag:Name", []string{`t\*`}, nil},
		{"tag-key", []string{"kubernetes.io/cluster/*"}, []int{1}},
		{"tag:kubernetes.io/cluster/demo", []string{"owned", "shared"}, []int{1}},
		{"iam-instance-profile.arn", []string{"*/ovenbird-node"}, []int{1, 2, 3}},
	} {
		t.Run(c.name+" "+strings.Join(c.values, ","), func(t *testing.T) {
			out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: &c.name, Values: c.values}}})
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, r := range out.Reservations {
				got = append(got, *r.Instances[0].InstanceId)
			}
			for _, n := range c.want {
				want = append(want, fmt.Sprintf("i-%017x", n))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	_, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}})
	refused(t, err, "InvalidParameterValue", "The filter 'colour' is invalid")
}

func TestDescribeInstancesComesInPages(t *testing.T) {
	var all []fleet.Instance
	for n := range 12 {
		all = append(all, sample(n+1, fleet.Running, nil))
	}
	client := newLab(t, all...).admin()
	seen := map[string]int{}
	pages := ec2.NewDescribeInstancesPaginator(client, &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5)})
	var sizes []int
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Reservations))
		for _, r := range page.Reservations {
			seen[*r.Instances[0].InstanceId]++
		}
	}
	if !slices.Equal(sizes, []int{5, 5, 2}) || len(seen) != 12 || slices.Max(slices.Collect(maps.Values(seen))) != 1 {
		t.Errorf("pages of %v, %d instances", sizes, len(seen))
	}
	for _, bad := range []*ec2.DescribeInstancesInput{
		{MaxResults: aws.Int32(4)}, {MaxResults: aws.Int32(1001)},
	} {
		_, err := client.DescribeInstances(t.Context(), bad)
		refused(t, err, "InvalidParameterValue", "maxResults")
	}
	_, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{NextToken: aws.String("no")})
	refused(t, err, "InvalidNextToken", "")
	_, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5), InstanceIds: []string{all[0].ID}})
	refused(t, err, "InvalidParameterCombination", "")
}

func TestInstancesThatDoNotExistAreNamed(t *testing.T) {
	client := newLab(t, sample(1, fleet.Running, nil)).admin()
	known, unknown := sample(1, "", nil).ID, "i-0ffffffffffffffff"
	_, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{known, unknown}})
	refused(t, err, "InvalidInstanceID.NotFound", "The instance ID '"+unknown+"' does not exist")
	_, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{"web-1"}})
	refused(t, err, "InvalidInstanceID.Malformed", `Invalid id: "web-1"`)
	_, err = client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{known, unknown}})
	refused(t, err, "InvalidInstanceID.NotFound", unknown)
	out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{known}})
	if err != nil || out.Reservations[0].Instances[0].State.Name != types.InstanceStateNameRunning {
		t.Errorf("the other was terminated all the same: %v", err)
	}
}

func TestATerminatedInstanceHasNoPlaceAnyMore(t *testing.T) {
	client := newLab(t, sample(1, fleet.Terminated, map[string]string{"a": "b"})).admin()
	out, err := client.DescribeInstances(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	i := out.Reservations[0].Instances[0]
	if i.PrivateIpAddress != nil || i.SubnetId != nil || i.VpcId != nil || len(i.NetworkInterfaces) != 0 || aws.ToString(i.PrivateDnsName) != "" || len(i.Tags) != 1 {
		t.Errorf("%+v", i)
	}
}

func TestSubnetsAndVPCsAreDescribed(t *testing.T) {
	client := newLab(t, sample(1, fleet.Running, nil)).admin()
	subnets, err := client.DescribeSubnets(t.Context(), nil)
	if err != nil || len(subnets.Subnets) != 3 {
		t.Fatalf("%v, %v", subnets, err)
	}
	if s := subnets.Subnets[1]; *s.SubnetId != subnetB || *s.AvailabilityZone != "us-west-2b" || *s.CidrBlock != "10.0.16.0/20" || *s.AvailableIpAddressCount != 4074 {
		t.Errorf("%+v", s)
	}
	subnets, err = client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{
		Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{"vpc-0a1b2c3d4e5f60718"}}, {Name: aws.String("availability-zone"), Values: []string{"us-west-2c"}}},
	})
	if err != nil || len(subnets.Subnets) != 1 || *subnets.Subnets[0].AvailabilityZone != "us-west-2c" {
		t.Errorf("%v, %v", subnets, err)
	}
	_, err = client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1"}})
	refused(t, err, "InvalidSubnetID.NotFound", "subnet-1")

	vpcs, err := client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-0a1b2c3d4e5f60718"}})
	if err != nil || len(vpcs.Vpcs) != 1 || *vpcs.Vpcs[0].CidrBlock != "10.0.0.0/16" {
		t.Errorf("%v, %v", vpcs, err)
	}
	_, err = client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-1"}})
	refused(t, err, "InvalidVpcID.NotFound", "vpc-1")

	kinds, err := client.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t3.medium"}})
	if err != nil || len(kinds.InstanceTypes) != 1 {
		t.Fatalf("%v, %v", kinds, err)
	}
	if k := kinds.InstanceTypes[0]; *k.VCpuInfo.DefaultVCpus != 2 || *k.MemoryInfo.SizeInMiB != 4096 || *k.NetworkInfo.Ipv4AddressesPerInterface != 6 || *k.NetworkInfo.MaximumNetworkInterfaces != 3 {
		t.Errorf("%+v", k)
	}
	kinds, err = client.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"i3en.2xlarge"}})
	if err != nil || len(kinds.InstanceTypes) != 1 {
		t.Fatalf("%v, %v", kinds, err)
	}
	k := kinds.InstanceTypes[0]
	if store := k.InstanceStorageInfo; !*k.InstanceStorageSupported || *store.TotalSizeInGB != 5000 || len(store.Disks) != 1 ||
		*store.Disks[0].Count != 2 || *store.Disks[0].SizeInGB != 2500 || store.NvmeSupport != types.EphemeralNvmeSupportRequired {
		t.Errorf("%+v", store)
	}
}

func TestCallersMayDoWhatTheirPrincipalMay(t *testing.T) {
	l := newLab(t)
	role := l.as("ASIA", "secret", "t")
	if _, err := role.DescribeInstances(t.Context(), nil); err != nil {
		t.Errorf("an instance's role cannot describe: %v", err)
	}
	_, err := role.RunInstances(t.Context(), runInput())
	refused(t, err, "UnauthorizedOperation", "ec2:RunInstances")
	_, err = role.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{"i-00000000000000001"}})
	refused(t, err, "UnauthorizedOperation", "ec2:TerminateInstances")
	_, err = l.as("AKIA", "wrong", "").DescribeInstances(t.Context(), nil)
	refused(t, err, "AuthFailure", "")
	_, err = l.as("NOBODY", "secret", "").DescribeInstances(t.Context(), nil)
	refused(t, err, "AuthFailure", "")
	_, err = l.admin().DescribeKeyPairs(t.Context(), nil)
	refused(t, err, "InvalidAction", "DescribeKeyPairs")
}
