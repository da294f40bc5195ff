package eks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/eks"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry/registrytest"
	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

const (
	adminARN = "arn:aws:iam::111122223333:user/admin"
	role     = "arn:aws:iam::111122223333:role/cluster"
	nodeRole = "arn:aws:iam::111122223333:role/ovenbird-node"
)

type keys struct{}

func (keys) Lookup(_ context.Context, id string) (sigv4.Credential, error) {
	switch id {
	case "AKIAADMIN":
		return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", ARN: adminARN}, nil
	case "ASIAROLE":
		return sigv4.Credential{AccessKeyID: id, SecretAccessKey: "secret", SessionToken: "token", ARN: "arn:aws:sts::111122223333:assumed-role/deployer/jane"}, nil
	}
	return sigv4.Credential{}, sigv4.ErrUnknownKey
}

// network is EC2 with one VPC of three subnets in two zones, and another VPC.
type network struct {
	vpcCIDR string
	err     error
}

func (n network) DescribeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	if n.err != nil {
		return nil, n.err
	}
	out := &ec2.DescribeSubnetsOutput{}
	for _, id := range in.SubnetIds {
		zone, vpc := "us-west-2"+strings.TrimPrefix(id, "subnet-")[:1], "vpc-1"
		switch id {
		case "subnet-a", "subnet-a2", "subnet-b":
		case "subnet-c":
			vpc = "vpc-2"
		case "subnet-lost": // EC2 may also leave it out
			continue
		default:
			return nil, &smithy.GenericAPIError{Code: "InvalidSubnetID.NotFound", Message: "The subnet ID '" + id + "' does not exist"}
		}
		out.Subnets = append(out.Subnets, ec2types.Subnet{SubnetId: aws.String(id), VpcId: aws.String(vpc), AvailabilityZone: aws.String(zone)})
	}
	return out, nil
}

func (n network) DescribeVpcs(_ context.Context, in *ec2.DescribeVpcsInput, _ ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error) {
	return &ec2.DescribeVpcsOutput{Vpcs: []ec2types.Vpc{{VpcId: aws.String(in.VpcIds[0]), CidrBlock: aws.String(n.vpcCIDR)}}}, nil
}

// service is the API over a real etcd, and an unmodified SDK client of it.
type service struct {
	*awseks.Client
	registry *registry.Registry
	url      string
}

func start(t *testing.T, n network) service {
	t.Helper()
	handler, r := handler(t, n, func(*iam.Callers) {}, adminPolicy, discard{}, zaptest.NewLogger(t))
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return service{client(server.URL, "AKIAADMIN", "secret", "", lossless(t)), r, server.URL}
}

const adminPolicy = `{"statements":[{"principals":["` + adminARN + `","arn:aws:iam::111122223333:role/deployer"],"actions":["eks:*"],"resources":["*"]}]}`

type discard struct{}

func (discard) Record(audit.Event) {}

// handler is the API over a real etcd, for callers whom change may add to.
func handler(t *testing.T, n network, change func(*iam.Callers), policy string, record eks.Audit, log *zap.Logger) (http.Handler, *registry.Registry) {
	t.Helper()
	if n.vpcCIDR == "" {
		n.vpcCIDR = "10.0.0.0/16"
	}
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := iam.OpenPolicy(file, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := registrytest.New(t)
	callers := iam.Callers{Keys: keys{}, Limit: iam.NewLimiter(1000, 1000, nil), Region: "us-west-2", Account: "111122223333", MaxBody: eks.MaxBody}
	change(&callers)
	handler, err := eks.New(eks.Options{
		Registry: r, EC2: n, Callers: callers, Access: iam.Authorizer{Policy: opened, Entries: r}, Audit: record, Region: "us-west-2", AccountID: "111122223333",
		Versions: []string{"1.36", "1.37"}, Patch: func(minor string) (string, error) { return minor + ".2", nil },
		PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return handler, r
}

func client(url, id, secret, token string, more ...func(*awseks.Options)) *awseks.Client {
	return awseks.New(awseks.Options{
		Region: "us-west-2", BaseEndpoint: aws.String(url), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
	}, more...)
}

func createInput(name string, change ...func(*awseks.CreateClusterInput)) *awseks.CreateClusterInput {
	in := &awseks.CreateClusterInput{
		Name: aws.String(name), RoleArn: aws.String(role), Version: aws.String("1.37"),
		ResourcesVpcConfig: &types.VpcConfigRequest{SubnetIds: []string{"subnet-a", "subnet-b"}},
	}
	for _, c := range change {
		c(in)
	}
	return in
}

func TestAClusterFromCreateToGone(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	before := time.Now().Add(-time.Second)
	created, err := s.CreateCluster(ctx, createInput("kitchen", func(in *awseks.CreateClusterInput) {
		in.Tags = map[string]string{"team": "bakers"}
		in.ResourcesVpcConfig.SecurityGroupIds = []string{"sg-0abc"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	c := created.Cluster
	if c.Status != types.ClusterStatusCreating || *c.Arn != "arn:aws:eks:us-west-2:111122223333:cluster/kitchen" || *c.Version != "1.37" || *c.RoleArn != role ||
		*c.PlatformVersion != "eks.1" || c.Tags["team"] != "bakers" || c.Endpoint != nil || c.CertificateAuthority.Data != nil ||
		c.CreatedAt.Before(before) || c.CreatedAt.After(time.Now().Add(time.Second)) {
		t.Errorf("created: %+v", c)
	}
	if v := c.ResourcesVpcConfig; *v.VpcId != "vpc-1" || !slices.Equal(v.SubnetIds, []string{"subnet-a", "subnet-b"}) || !slices.Equal(v.SecurityGroupIds, []string{"sg-0abc"}) ||
		!v.EndpointPublicAccess || v.EndpointPrivateAccess || !slices.Equal(v.PublicAccessCidrs, []string{"0.0.0.0/0"}) {
		t.Errorf("VPC: %+v", v)
	}
	if n := c.KubernetesNetworkConfig; *n.ServiceIpv4Cidr != "172.20.0.0/16" || n.IpFamily != types.IpFamilyIpv4 {
		t.Errorf("network: %+v", n)
	}
	if a := c.AccessConfig; a.AuthenticationMode != types.AuthenticationModeApi || !*a.BootstrapClusterCreatorAdminPermissions {
		t.Errorf("access: %+v", a)
	}
	stored, err := s.registry.Change(ctx, "kitchen", func(c *registry.Cluster) error {
		c.Status = registry.Status{Phase: registry.PhaseActive, Endpoint: "https://10.0.0.10:6443", CertificateAuthority: []byte("PEM\n"), Message: "scheduler restarts"}
		return nil
	})
	if err != nil || stored.CreatedBy != adminARN || stored.Port != 6443 || stored.VPCCIDR != "10.0.0.0/16" || stored.PodCIDR != "10.244.0.0/16" {
		t.Errorf("stored: %+v, %v", stored, err)
	}
	described, err := s.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: aws.String("kitchen")})
	if err != nil {
		t.Fatal(err)
	}
	c = described.Cluster
	if c.Status != types.ClusterStatusActive || *c.Endpoint != "https://10.0.0.10:6443" || *c.CertificateAuthority.Data != "UEVNCg==" ||
		len(c.Health.Issues) != 1 || *c.Health.Issues[0].Message != "scheduler restarts" {
		t.Errorf("described: %+v", c)
	}
	for range 2 { // a retry of a delete is no error
		deleted, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")})
		if err != nil || deleted.Cluster.Status != types.ClusterStatusDeleting {
			t.Fatalf("deleted: %+v, %v", deleted, err)
		}
	}
	if stored, err = s.registry.Get(ctx, "kitchen"); err != nil || !stored.Deleting {
		t.Fatalf("stored: %+v, %v", stored, err)
	}
	// What the reconciler does last.
	if err := s.registry.Delete(ctx, stored); err != nil {
		t.Fatal(err)
	}
	_, err = s.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: aws.String("kitchen")})
	var gone *types.ResourceNotFoundException
	if !errors.As(err, &gone) || gone.ErrorMessage() != "No cluster found for name: kitchen." || aws.ToString(gone.ClusterName) != "kitchen" {
		t.Errorf("after delete: %v", err)
	}
	if _, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")}); !errors.As(err, &gone) {
		t.Errorf("delete of nothing: %v", err)
	}
}

func TestAClusterThatIsBeingRestoredIsCreatingAndCanBeDeleted(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	restoring := registry.Cluster{Name: "kitchen", CreatedAt: time.Now(), UpdateID: "saved", DeletionProtection: true, Status: registry.Status{Phase: registry.PhaseRestoring}}
	if _, err := s.registry.Create(ctx, restoring); err != nil {
		t.Fatal(err)
	}
	described, err := s.DescribeCluster(ctx, &awseks.DescribeClusterInput{Name: aws.String("kitchen")})
	if err != nil || described.Cluster.Status != types.ClusterStatusCreating {
		t.Errorf("described: %+v, %v", described, err)
	}
	deleted, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")})
	if err != nil || deleted.Cluster.Status != types.ClusterStatusDeleting {
		t.Errorf("deleted: %+v, %v", deleted, err)
	}
}

func TestListGoesPageByPage(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("c%d", i)
		want = append(want, name)
		if _, err := s.registry.Create(ctx, registry.Cluster{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	pages := awseks.NewListClustersPaginator(s, &awseks.ListClustersInput{MaxResults: aws.Int32(2)})
	for n := 0; pages.HasMorePages(); n++ {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Clusters) > 2 || n > 2 {
			t.Fatalf("page %d: %v", n, page.Clusters)
		}
		got = append(got, page.Clusters...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var invalid *types.InvalidParameterException
	for _, in := range []*awseks.ListClustersInput{{MaxResults: aws.Int32(0)}, {MaxResults: aws.Int32(101)}, {NextToken: aws.String("%%%")}} {
		if _, err := s.ListClusters(ctx, in); !errors.As(err, &invalid) {
			t.Errorf("%+v: got %v", in, err)
		}
	}
}

func TestOnlySignedCallsGetAnAnswer(t *testing.T) {
	s := start(t, network{})
	tests := []struct {
		name   string
		client *awseks.Client
		code   string
	}{
		{"another secret", client(s.url, "AKIAADMIN", "guess", ""), "InvalidSignatureException"},
		{"an unknown key", client(s.url, "AKIANOBODY", "secret", ""), "UnrecognizedClientException"},
		{"no session token", client(s.url, "ASIAROLE", "secret", ""), "UnrecognizedClientException"},
	}
	for _, tt := range tests {
		_, err := tt.client.ListClusters(t.Context(), &awseks.ListClustersInput{})
		var refused smithy.APIError
		var response interface{ HTTPStatusCode() int }
		if !errors.As(err, &refused) || refused.ErrorCode() != tt.code || !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusForbidden {
			t.Errorf("%s: got %v, want 403 %s", tt.name, err, tt.code)
		}
	}
	for _, path := range []string{"/clusters", "/clusters/x", "/nothing", "/"} {
		response, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden || response.Header.Get("X-Amzn-Errortype") != "MissingAuthenticationTokenException" || !strings.Contains(string(body), `"message"`) {
			t.Errorf("%s unsigned: got %d %s", path, response.StatusCode, body)
		}
	}
	_, err := s.CreateCluster(t.Context(), createInput("x", func(i *awseks.CreateClusterInput) {
		i.Tags = map[string]string{"large": strings.Repeat("x", 300<<10)}
	}))
	var response interface{ HTTPStatusCode() int }
	if !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the bound: got %v", err)
	}
}

func TestTroubleWithEC2IsNotTheCallersFault(t *testing.T) {
	s := start(t, network{err: errors.New("connection refused by 10.9.8.7")})
	_, err := s.CreateCluster(t.Context(), createInput("x"))
	var refused smithy.APIError
	if !errors.As(err, &refused) || refused.ErrorCode() != "ServiceUnavailableException" || strings.Contains(err.Error(), "10.9.8.7") {
		t.Errorf("got %v", err)
	}
}
