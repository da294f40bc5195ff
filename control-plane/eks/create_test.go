package eks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

func TestCreateRefusesBadRequestsByName(t *testing.T) {
	s := start(t, network{})
	type in = awseks.CreateClusterInput
	subnets := func(ids ...string) func(*in) { return func(i *in) { i.ResourcesVpcConfig.SubnetIds = ids } }
	service := func(cidr string) func(*in) {
		return func(i *in) {
			i.KubernetesNetworkConfig = &types.KubernetesNetworkConfigRequest{ServiceIpv4Cidr: aws.String(cidr)}
		}
	}
	no := aws.Bool(false)
	tests := []struct {
		name    string
		cluster string
		change  func(*in)
		want    string
	}{
		{"a slash in the name", "a/b", nil, `name: "a/b"`},
		{"a name that begins with a hyphen", "-a", nil, "name"},
		{"a name of 101 characters", strings.Repeat("a", 101), nil, "name"},
		{"an unknown version", "x", func(i *in) { i.Version = aws.String("1.99") }, "version: unsupported Kubernetes version \"1.99\": choose from 1.36, 1.37"},
		{"a version with a patch", "x", func(i *in) { i.Version = aws.String("1.37.2") }, "version"},
		{"a role that is no ARN", "x", func(i *in) { i.RoleArn = aws.String("admin") }, "roleArn"},
		{"no subnet", "x", subnets(), "at least two subnets"},
		{"one subnet", "x", subnets("subnet-a"), "at least two subnets"},
		{"a subnet twice", "x", subnets("subnet-a", "subnet-a"), "at least two subnets"},
		{"three, one of them twice", "x", subnets("subnet-a", "subnet-b", "subnet-a"), "given twice"},
		{"subnets in one zone", "x", subnets("subnet-a", "subnet-a2"), "two different AZs"},
		{"subnets of two VPCs", "x", subnets("subnet-a", "subnet-c"), "one VPC"},
		{"an unknown subnet", "x", subnets("subnet-a", "subnet-9"), "'subnet-9' does not exist"},
		{"a subnet that EC2 leaves out", "x", subnets("subnet-a", "subnet-lost"), "'subnet-lost' does not exist"},
		{"a security group that is none", "x", func(i *in) { i.ResourcesVpcConfig.SecurityGroupIds = []string{"web"} }, `"web"`},
		{"no endpoint at all", "x", func(i *in) { i.ResourcesVpcConfig.EndpointPublicAccess = no }, "cannot both be false"},
		{"a restricted public endpoint", "x", func(i *in) { i.ResourcesVpcConfig.PublicAccessCidrs = []string{"192.0.2.0/24"} }, "publicAccessCidrs"},
		{"a service CIDR that is none", "x", service("10.100.0.0"), "serviceIpv4Cidr"},
		{"a service CIDR with host bits", "x", service("10.100.0.1/16"), "serviceIpv4Cidr"},
		{"an IPv6 service CIDR", "x", service("fd00::/108"), "serviceIpv4Cidr"},
		{"a public service CIDR", "x", service("100.64.0.0/16"), "must be within"},
		{"a service CIDR that is too small", "x", service("172.20.0.0/25"), "between /24 and /12"},
		{"a service CIDR that is too large", "x", service("10.0.0.0/11"), "between /24 and /12"},
		{"a service CIDR within the VPC", "x", service("10.0.128.0/20"), "overlaps the VPC"},
		{"a service CIDR around the VPC", "x", service("10.0.0.0/12"), "overlaps the VPC"},
		{"a service CIDR among the pods", "x", service("10.244.0.0/20"), "overlaps the pods"},
		{"another authentication mode", "x", func(i *in) {
			i.AccessConfig = &types.CreateAccessConfigRequest{AuthenticationMode: types.AuthenticationModeConfigMap}
		}, "authenticationMode"},
		{"a tag of AWS's own", "x", func(i *in) { i.Tags = map[string]string{"aws:x": "y"} }, "tags"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*in) {}
			}
			_, err := s.CreateCluster(t.Context(), createInput(tt.cluster, tt.change))
			var invalid *types.InvalidParameterException
			if !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), tt.want) || strings.Contains(invalid.ErrorMessage(), "\n") {
				t.Errorf("got %v, want an InvalidParameterException of one line with %q", err, tt.want)
			}
		})
	}
	clusters, err := s.registry.List(t.Context())
	if err != nil || len(clusters) != 0 {
		t.Errorf("left behind: %v, %v", clusters, err)
	}
}

func TestWhatIsNotOfferedIsRefusedUnlessItIsTheDefault(t *testing.T) {
	s := start(t, network{})
	type in = awseks.CreateClusterInput
	var refused *types.InvalidRequestException
	for name, change := range map[string]func(*in){
		"encryptionConfig":    func(i *in) { i.EncryptionConfig = []types.EncryptionConfig{{Resources: []string{"secrets"}}} },
		"ipFamily":            func(i *in) { i.KubernetesNetworkConfig = &types.KubernetesNetworkConfigRequest{IpFamily: "ipv6"} },
		"computeConfig":       func(i *in) { i.ComputeConfig = &types.ComputeConfigRequest{Enabled: aws.Bool(true)} },
		"controlPlaneEgress":  func(i *in) { i.ResourcesVpcConfig.ControlPlaneEgressMode = "CUSTOMER_ROUTED" },
		"bootstrapSelfManage": func(i *in) { i.BootstrapSelfManagedAddons = aws.Bool(false) },
	} {
		_, err := s.CreateCluster(t.Context(), createInput("x", change))
		if !errors.As(err, &refused) || !strings.Contains(refused.ErrorMessage(), name) || !strings.Contains(refused.ErrorMessage(), "not offered yet") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := s.ListAddons(t.Context(), &awseks.ListAddonsInput{ClusterName: aws.String("x")}); !errors.As(err, &refused) || refused.ErrorMessage() != "ListAddons is not offered by Ovenbird yet" {
		t.Errorf("another operation: got %v", err)
	}
	_, err := s.CreateCluster(t.Context(), createInput("defaults", func(i *in) {
		i.Version = nil
		i.ComputeConfig = &types.ComputeConfigRequest{Enabled: aws.Bool(false)}
		i.Logging = logs(false)
		i.UpgradePolicy = &types.UpgradePolicyRequest{SupportType: types.SupportTypeStandard}
		i.BootstrapSelfManagedAddons, i.DeletionProtection = aws.Bool(true), aws.Bool(false)
		i.KubernetesNetworkConfig = &types.KubernetesNetworkConfigRequest{IpFamily: "ipv4", ServiceIpv4Cidr: aws.String("192.168.0.0/20")}
	}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.registry.Get(t.Context(), "defaults")
	if err != nil || c.Version != "1.37" || c.ServiceCIDR != "192.168.0.0/20" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func logs(enabled bool) *types.Logging {
	return &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(enabled), Types: []types.LogType{"api"}}}}
}

func TestServicesGetAddressesThatTheVPCLeavesFree(t *testing.T) {
	for vpc, want := range map[string]string{"10.0.0.0/16": "172.20.0.0/16", "172.31.0.0/16": "10.100.0.0/16", "192.168.0.0/16": "10.100.0.0/16"} {
		s := start(t, network{vpcCIDR: vpc})
		created, err := s.CreateCluster(t.Context(), createInput("x"))
		if err != nil || *created.Cluster.KubernetesNetworkConfig.ServiceIpv4Cidr != want {
			t.Errorf("%s: got %+v, %v, want %s", vpc, created, err, want)
		}
	}
}

func TestARepeatedCreateAnswersAsTheFirst(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	token := func(i *awseks.CreateClusterInput) { i.ClientRequestToken = aws.String("token-1") }
	first, err := s.CreateCluster(ctx, createInput("kitchen", token))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.CreateCluster(ctx, createInput("kitchen", token))
	if err != nil || !again.Cluster.CreatedAt.Equal(*first.Cluster.CreatedAt) || *again.Cluster.Arn != *first.Cluster.Arn {
		t.Errorf("same token, same body: got %+v, %v", again, err)
	}
	var invalid *types.InvalidParameterException
	for name, in := range map[string]*awseks.CreateClusterInput{
		"another body": createInput("kitchen", token, func(i *awseks.CreateClusterInput) { i.Tags = map[string]string{"a": "b"} }),
		"another name": createInput("pantry", token),
	} {
		if _, err := s.CreateCluster(ctx, in); !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), "clientRequestToken") {
			t.Errorf("same token, %s: got %v", name, err)
		}
	}
	var taken *types.ResourceInUseException
	if _, err := s.CreateCluster(ctx, createInput("kitchen")); !errors.As(err, &taken) || taken.ErrorMessage() != "Cluster already exists with name: kitchen" {
		t.Errorf("another token: got %v", err)
	}
}
