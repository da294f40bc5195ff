package eks_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// startActive is start with a cluster named kitchen that is ACTIVE.
func startActive(t *testing.T, change ...func(*awseks.CreateClusterInput)) service {
	t.Helper()
	s := start(t, network{})
	if _, err := s.CreateCluster(t.Context(), createInput("kitchen", change...)); err != nil {
		t.Fatal(err)
	}
	s.activate(t, "kitchen")
	return s
}

// activate does what the reconciler does when all components run as the record says.
func (s service) activate(t *testing.T, name string) {
	t.Helper()
	c, err := s.registry.Change(t.Context(), name, func(c *registry.Cluster) error {
		c.Status.Phase = registry.PhaseActive
		return nil
	})
	if err == nil && c.UpdateID != "" {
		err = s.registry.FinishUpdate(t.Context(), name, c.UpdateID)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s service) describe(t *testing.T) *types.Cluster {
	t.Helper()
	described, err := s.DescribeCluster(t.Context(), &awseks.DescribeClusterInput{Name: aws.String("kitchen")})
	if err != nil {
		t.Fatal(err)
	}
	return described.Cluster
}

func configInput(change func(*awseks.UpdateClusterConfigInput)) *awseks.UpdateClusterConfigInput {
	in := &awseks.UpdateClusterConfigInput{Name: aws.String("kitchen")}
	change(in)
	return in
}

func auditOn(in *awseks.UpdateClusterConfigInput) {
	in.Logging = &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(true), Types: []types.LogType{"scheduler", "audit"}}}}
}

// enabled are the types of logs that a cluster says are on.
func enabled(c *types.Cluster) []types.LogType {
	for _, setup := range c.Logging.ClusterLogging {
		if *setup.Enabled {
			return setup.Types
		}
	}
	return nil
}

func TestAnUpdateGoesOnUntilTheClusterRunsSo(t *testing.T) {
	s, ctx := startActive(t), t.Context()
	if got := enabled(s.describe(t)); got != nil {
		t.Errorf("a new cluster has logs %v enabled", got)
	}
	started, err := s.UpdateClusterConfig(ctx, configInput(auditOn))
	if err != nil {
		t.Fatal(err)
	}
	u := started.Update
	if u.Status != types.UpdateStatusInProgress || u.Type != types.UpdateTypeLoggingUpdate || u.CreatedAt == nil || len(u.Params) != 1 || u.Params[0].Type != types.UpdateParamTypeClusterLogging ||
		*u.Params[0].Value != `{"clusterLogging":[{"types":["scheduler","audit"],"enabled":true}]}` {
		t.Errorf("started: %+v", u)
	}
	if c := s.describe(t); c.Status != types.ClusterStatusUpdating || !slices.Equal(enabled(c), []types.LogType{"audit", "scheduler"}) {
		t.Errorf("meanwhile: %s, logs %v", c.Status, enabled(c))
	}

	var busy *types.ResourceInUseException
	_, err = s.UpdateClusterConfig(ctx, configInput(func(in *awseks.UpdateClusterConfigInput) { in.DeletionProtection = aws.Bool(true) }))
	if want := "Cannot DeletionProtectionUpdate because cluster kitchen currently has update " + *u.Id + " in progress"; !errors.As(err, &busy) || busy.ErrorMessage() != want {
		t.Errorf("a second update: got %v, want %s", err, want)
	}
	if _, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")}); !errors.As(err, &busy) {
		t.Errorf("delete meanwhile: got %v", err)
	}
	var refused *types.InvalidRequestException
	if _, err := s.CancelUpdate(ctx, &awseks.CancelUpdateInput{Name: aws.String("kitchen"), UpdateId: u.Id}); !errors.As(err, &refused) || !strings.Contains(refused.ErrorMessage(), "cannot be cancelled") {
		t.Errorf("cancel: got %v", err)
	}

	s.activate(t, "kitchen")
	done, err := s.DescribeUpdate(ctx, &awseks.DescribeUpdateInput{Name: aws.String("kitchen"), UpdateId: u.Id})
	if err != nil || done.Update.Status != types.UpdateStatusSuccessful || s.describe(t).Status != types.ClusterStatusActive {
		t.Errorf("done: %+v, %v", done, err)
	}
	var gone *types.ResourceNotFoundException
	if _, err := s.DescribeUpdate(ctx, &awseks.DescribeUpdateInput{Name: aws.String("kitchen"), UpdateId: aws.String("other")}); !errors.As(err, &gone) {
		t.Errorf("an update that never was: got %v", err)
	}
	if _, err := s.DescribeUpdate(ctx, &awseks.DescribeUpdateInput{Name: aws.String("kitchen"), UpdateId: u.Id, NodegroupName: aws.String("ng")}); !errors.As(err, &gone) {
		t.Errorf("an update of a node group: got %v", err)
	}
}

func TestAFailedUpdateSaysWhy(t *testing.T) {
	s, ctx := startActive(t), t.Context()
	started, err := s.UpdateClusterConfig(ctx, configInput(auditOn))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.registry.FinishUpdate(ctx, "kitchen", *started.Update.Id, registry.UpdateError{Code: "Unknown", Message: "the disk is full", ResourceIDs: []string{"kitchen"}}); err != nil {
		t.Fatal(err)
	}
	failed, err := s.DescribeUpdate(ctx, &awseks.DescribeUpdateInput{Name: aws.String("kitchen"), UpdateId: started.Update.Id})
	if err != nil || failed.Update.Status != types.UpdateStatusFailed || len(failed.Update.Errors) != 1 || *failed.Update.Errors[0].ErrorMessage != "the disk is full" {
		t.Errorf("got %+v, %v", failed, err)
	}
	if c := s.describe(t); c.Status != types.ClusterStatusActive || enabled(c) != nil {
		t.Errorf("afterwards: %s, logs %v", c.Status, enabled(c))
	}
}

func TestUpdatesAreListedPageByPage(t *testing.T) {
	s, ctx := startActive(t), t.Context()
	var want []string
	for _, on := range []bool{true, false, true} {
		started, err := s.UpdateClusterConfig(ctx, configInput(func(in *awseks.UpdateClusterConfigInput) { in.DeletionProtection = aws.Bool(on) }))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, *started.Update.Id)
		s.activate(t, "kitchen")
	}
	var got []string
	pages := awseks.NewListUpdatesPaginator(s, &awseks.ListUpdatesInput{Name: aws.String("kitchen"), MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.UpdateIds...)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestARepeatedUpdateAnswersAsTheFirst(t *testing.T) {
	s, ctx := startActive(t), t.Context()
	input := configInput(auditOn)
	input.ClientRequestToken = aws.String("token-1")
	first, err := s.UpdateClusterConfig(ctx, input)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.UpdateClusterConfig(ctx, input); err != nil || *again.Update.Id != *first.Update.Id {
		t.Errorf("while it is in progress: got %+v, %v", again, err)
	}
	s.activate(t, "kitchen")
	if again, err := s.UpdateClusterConfig(ctx, input); err != nil || *again.Update.Id != *first.Update.Id || again.Update.Status != types.UpdateStatusSuccessful {
		t.Errorf("after it: got %+v, %v", again, err)
	}
	other := configInput(func(in *awseks.UpdateClusterConfigInput) { in.DeletionProtection = aws.Bool(true) })
	other.ClientRequestToken = aws.String("token-1")
	var invalid *types.InvalidParameterException
	if _, err := s.UpdateClusterConfig(ctx, other); !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), "clientRequestToken") {
		t.Errorf("another body: got %v", err)
	}
}

func TestOneTokenStartsOneUpdateHoweverOftenItComesAtOnce(t *testing.T) {
	s := startActive(t)
	input := configInput(func(in *awseks.UpdateClusterConfigInput) { in.DeletionProtection = aws.Bool(true) })
	input.ClientRequestToken = aws.String("token-1")
	var wg sync.WaitGroup
	ids := make(chan string, 6)
	for range cap(ids) {
		wg.Go(func() {
			started, err := s.UpdateClusterConfig(t.Context(), input)
			if err != nil {
				t.Error(err)
				return
			}
			ids <- *started.Update.Id
			if err := s.registry.FinishUpdate(t.Context(), "kitchen", *started.Update.Id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("updates %s and %s", first, id)
		}
	}
}

func TestUpdatesThatChangeNothingOrTooMuchAreRefused(t *testing.T) {
	s := startActive(t, func(in *awseks.CreateClusterInput) {
		in.Logging = &types.Logging{ClusterLogging: []types.LogSetup{{Enabled: aws.Bool(true), Types: []types.LogType{"audit"}}}}
	})
	type in = awseks.UpdateClusterConfigInput
	logs := func(setups ...types.LogSetup) func(*in) {
		return func(i *in) { i.Logging = &types.Logging{ClusterLogging: setups} }
	}
	on := func(kinds ...types.LogType) types.LogSetup {
		return types.LogSetup{Enabled: aws.Bool(true), Types: kinds}
	}
	mode := func(m types.AuthenticationMode) func(*in) {
		return func(i *in) { i.AccessConfig = &types.UpdateAccessConfigRequest{AuthenticationMode: m} }
	}
	vpc := func(v types.VpcConfigRequest) func(*in) { return func(i *in) { i.ResourcesVpcConfig = &v } }
	tests := []struct {
		name   string
		change func(*in)
		kind   string
		want   string
	}{
		{"nothing", func(*in) {}, "*types.InvalidParameterException", "No changes were given"},
		{"two kinds at once", func(i *in) { auditOn(i); i.DeletionProtection = aws.Bool(true) }, "*types.InvalidParameterException", "Only one type of update can be allowed."},
		{"logs as they are", logs(on("audit")), "*types.InvalidParameterException", "No changes needed for the logging config provided"},
		{"a log that there is not", logs(on("kubelet")), "*types.InvalidParameterException", `"kubelet" is no type of log`},
		{"a log both ways", logs(on("api"), types.LogSetup{Enabled: aws.Bool(false), Types: []types.LogType{"api"}}), "*types.InvalidParameterException", "both enabled and disabled"},
		{"protection as it is", func(i *in) { i.DeletionProtection = aws.Bool(false) }, "*types.InvalidParameterException", "No changes needed"},
		{"the mode as it is", mode("API"), "*types.InvalidParameterException", "Unsupported authentication mode update from API to API"},
		{"a mode for the ConfigMap", mode("API_AND_CONFIG_MAP"), "*types.InvalidParameterException", "Unsupported authentication mode update from API to API_AND_CONFIG_MAP"},
		{"the endpoint as it is", vpc(types.VpcConfigRequest{EndpointPublicAccess: aws.Bool(true), PublicAccessCidrs: []string{"0.0.0.0/0"}}), "*types.InvalidParameterException", "already at the desired configuration with endpointPrivateAccess: false"},
		{"a private endpoint", vpc(types.VpcConfigRequest{EndpointPrivateAccess: aws.Bool(true)}), "*types.InvalidRequestException", "endpoint access cannot be changed yet"},
		{"other subnets", vpc(types.VpcConfigRequest{SubnetIds: []string{"subnet-a", "subnet-b"}}), "*types.InvalidRequestException", "another network"},
		{"zonal shift", func(i *in) { i.ZonalShiftConfig = &types.ZonalShiftConfigRequest{Enabled: aws.Bool(true)} }, "*types.InvalidRequestException", "zonalShiftConfig cannot be updated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.UpdateClusterConfig(t.Context(), configInput(tt.change))
			checkRefusal(t, err, tt.kind, tt.want)
		})
	}
	if all, err := s.ListUpdates(t.Context(), &awseks.ListUpdatesInput{Name: aws.String("kitchen")}); err != nil || len(all.UpdateIds) != 0 {
		t.Errorf("left behind: %v, %v", all, err)
	}
}

func TestAClusterThatIsNotActiveIsNotUpdated(t *testing.T) {
	s := start(t, network{})
	if _, err := s.CreateCluster(t.Context(), createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	_, err := s.UpdateClusterConfig(t.Context(), configInput(auditOn))
	checkRefusal(t, err, "*types.InvalidRequestException", "Cannot LoggingUpdate because cluster kitchen is CREATING")
	_, err = s.UpdateClusterConfig(t.Context(), &awseks.UpdateClusterConfigInput{Name: aws.String("nowhere")})
	checkRefusal(t, err, "*types.ResourceNotFoundException", "No cluster found for name: nowhere.")
}

func TestTheConfigMapIsLeftForGood(t *testing.T) {
	s, ctx := startActive(t, func(in *awseks.CreateClusterInput) {
		in.AccessConfig = &types.CreateAccessConfigRequest{AuthenticationMode: types.AuthenticationModeApiAndConfigMap}
	}), t.Context()
	mode := func(m types.AuthenticationMode) *awseks.UpdateClusterConfigInput {
		return configInput(func(in *awseks.UpdateClusterConfigInput) {
			in.AccessConfig = &types.UpdateAccessConfigRequest{AuthenticationMode: m}
		})
	}
	_, err := s.UpdateClusterConfig(ctx, mode("CONFIG_MAP"))
	checkRefusal(t, err, "*types.InvalidParameterException", "Unsupported authentication mode update from API_AND_CONFIG_MAP to CONFIG_MAP")
	started, err := s.UpdateClusterConfig(ctx, mode("API"))
	if err != nil || started.Update.Type != types.UpdateTypeAccessConfigUpdate || *started.Update.Params[0].Value != "API" {
		t.Fatalf("got %+v, %v", started, err)
	}
	s.activate(t, "kitchen")
	if c := s.describe(t); c.AccessConfig.AuthenticationMode != types.AuthenticationModeApi {
		t.Errorf("mode %s", c.AccessConfig.AuthenticationMode)
	}
}

func TestAProtectedClusterIsNotDeleted(t *testing.T) {
	s, ctx := startActive(t, func(in *awseks.CreateClusterInput) { in.DeletionProtection = aws.Bool(true) }), t.Context()
	if c := s.describe(t); !*c.DeletionProtection {
		t.Error("the cluster does not say that it is protected")
	}
	_, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")})
	checkRefusal(t, err, "*types.InvalidRequestException", "deletion protection")
	if _, err := s.UpdateClusterConfig(ctx, configInput(func(in *awseks.UpdateClusterConfigInput) { in.DeletionProtection = aws.Bool(false) })); err != nil {
		t.Fatal(err)
	}
	s.activate(t, "kitchen")
	if _, err := s.DeleteCluster(ctx, &awseks.DeleteClusterInput{Name: aws.String("kitchen")}); err != nil {
		t.Error(err)
	}
}

func TestAVersionStaysAsItIs(t *testing.T) {
	s := startActive(t, func(in *awseks.CreateClusterInput) { in.Version = aws.String("1.36") })
	for version, want := range map[string][2]string{
		"1.36": {"*types.InvalidParameterException", "Unsupported Kubernetes minor version update from 1.36 to 1.36"},
		"1.99": {"*types.InvalidParameterException", "unsupported Kubernetes version"},
		"1.37": {"*types.InvalidRequestException", "UpdateClusterVersion is not offered by Ovenbird yet"},
	} {
		_, err := s.UpdateClusterVersion(t.Context(), &awseks.UpdateClusterVersionInput{Name: aws.String("kitchen"), Version: aws.String(version)})
		checkRefusal(t, err, want[0], want[1])
	}
}
