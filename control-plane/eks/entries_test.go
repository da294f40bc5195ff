package eks_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

func TestTheCreatorMayEnterUnlessItDeclines(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	asRole := client(s.url, "ASIAROLE", "secret", "token")
	if _, err := asRole.CreateCluster(ctx, createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	described, err := s.DescribeAccessEntry(ctx, &awseks.DescribeAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String("arn:aws:iam::111122223333:role/deployer")})
	if err != nil {
		t.Fatal(err)
	}
	if e := described.AccessEntry; *e.Type != "STANDARD" || *e.Username != "arn:aws:sts::111122223333:assumed-role/deployer/{{SessionName}}" ||
		!strings.HasPrefix(*e.AccessEntryArn, "arn:aws:eks:us-west-2:111122223333:access-entry/kitchen/role/111122223333/deployer/") {
		t.Errorf("got %+v", e)
	}
	admins, err := s.ListAccessEntries(ctx, &awseks.ListAccessEntriesInput{ClusterName: aws.String("kitchen"), AssociatedPolicyArn: aws.String(registry.ClusterAdminPolicy)})
	if err != nil || !slices.Equal(admins.AccessEntries, []string{"arn:aws:iam::111122223333:role/deployer"}) {
		t.Errorf("got %+v, %v", admins, err)
	}
	if _, err := s.CreateCluster(ctx, createInput("closed", func(i *awseks.CreateClusterInput) {
		i.AccessConfig = &types.CreateAccessConfigRequest{BootstrapClusterCreatorAdminPermissions: aws.Bool(false)}
	})); err != nil {
		t.Fatal(err)
	}
	if all, err := s.ListAccessEntries(ctx, &awseks.ListAccessEntriesInput{ClusterName: aws.String("closed")}); err != nil || len(all.AccessEntries) != 0 {
		t.Errorf("got %+v, %v, want none", all, err)
	}
}

func TestAccessEntriesAreMadeFoundAndRemoved(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	if _, err := s.CreateCluster(ctx, createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	name := aws.String("kitchen")
	node := &awseks.CreateAccessEntryInput{ClusterName: name, PrincipalArn: aws.String(nodeRole), Type: aws.String("EC2_LINUX"), ClientRequestToken: aws.String("token-1")}
	for range 2 { // the second is a retry
		created, err := s.CreateAccessEntry(ctx, node)
		if err != nil {
			t.Fatal(err)
		}
		if e := created.AccessEntry; *e.Username != "system:node:{{EC2PrivateDNSName}}" || !slices.Equal(e.KubernetesGroups, []string{"system:nodes"}) {
			t.Errorf("created: %+v", e)
		}
	}
	node.ClientRequestToken = aws.String("token-2")
	var taken *types.ResourceInUseException
	if _, err := s.CreateAccessEntry(ctx, node); !errors.As(err, &taken) {
		t.Errorf("second: %v", err)
	}
	if all, err := s.ListAccessEntries(ctx, &awseks.ListAccessEntriesInput{ClusterName: name, MaxResults: aws.Int32(1)}); err != nil || !slices.Equal(all.AccessEntries, []string{nodeRole}) || all.NextToken == nil {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := s.DeleteAccessEntry(ctx, &awseks.DeleteAccessEntryInput{ClusterName: name, PrincipalArn: aws.String(nodeRole)}); err != nil {
		t.Fatal(err)
	}
	var gone *types.ResourceNotFoundException
	if _, err := s.DescribeAccessEntry(ctx, &awseks.DescribeAccessEntryInput{ClusterName: name, PrincipalArn: aws.String(nodeRole)}); !errors.As(err, &gone) {
		t.Errorf("describe after delete: %v", err)
	}
	if _, err := s.DeleteAccessEntry(ctx, &awseks.DeleteAccessEntryInput{ClusterName: name, PrincipalArn: aws.String(nodeRole)}); !errors.As(err, &gone) {
		t.Errorf("second delete: %v", err)
	}
	node.ClusterName = aws.String("nowhere")
	if _, err := s.CreateAccessEntry(ctx, node); !errors.As(err, &gone) || gone.ErrorMessage() != "No cluster found for name: nowhere." {
		t.Errorf("no such cluster: %v", err)
	}
}

func TestAnAccessEntryCannotClaimReservedNames(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	if _, err := s.CreateCluster(ctx, createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	type in = awseks.CreateAccessEntryInput
	for name, change := range map[string]func(*in){
		"principal that is no ARN":     func(i *in) { i.PrincipalArn = aws.String("admin") },
		"an assumed role as principal": func(i *in) { i.PrincipalArn = aws.String("arn:aws:sts::111122223333:assumed-role/a/b") },
		"a type that is not offered":   func(i *in) { i.Type = aws.String("FARGATE_LINUX") },
		"a node of another account": func(i *in) {
			i.Type, i.PrincipalArn = aws.String("EC2"), aws.String("arn:aws:iam::444455556666:role/node")
		},
		"a node in group system:nodes":  func(i *in) { i.Type, i.KubernetesGroups = aws.String("EC2"), []string{"system:nodes"} },
		"group system:masters":          func(i *in) { i.KubernetesGroups = []string{"system:masters"} },
		"group ovenbird:cluster-admins": func(i *in) { i.KubernetesGroups = []string{"ovenbird:cluster-admins"} },
		"user system:admin":             func(i *in) { i.Username = aws.String("system:admin") },
		"a session name as whole name":  func(i *in) { i.Username = aws.String("{{SessionName}}") },
		"a node with groups":            func(i *in) { i.Type, i.KubernetesGroups = aws.String("EC2_LINUX"), []string{"x"} },
		"a node that is a user":         func(i *in) { i.Type, i.PrincipalArn = aws.String("EC2_LINUX"), aws.String(adminARN+"2") },
	} {
		input := &in{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(nodeRole)}
		change(input)
		var invalid *types.InvalidParameterException
		if _, err := s.CreateAccessEntry(ctx, input); !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := s.CreateAccessEntry(ctx, &in{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(nodeRole), Username: aws.String("ci:{{SessionName}}"), KubernetesGroups: []string{"bakers"}}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestAnEntryOfTypeEC2SaysItsGroupsAndItsUser(t *testing.T) {
	s, ctx := start(t, network{}), t.Context()
	if _, err := s.CreateCluster(ctx, createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	for username, want := range map[string]string{"": "system:node:{{EC2PrivateDNSName}}", "oven:{{EC2PrivateDNSName}}": "oven:{{EC2PrivateDNSName}}"} {
		input := &awseks.CreateAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(nodeRole), Type: aws.String("EC2"), KubernetesGroups: []string{"ovens"}}
		if username != "" {
			input.Username = aws.String(username)
		}
		created, err := s.CreateAccessEntry(ctx, input)
		if err != nil || *created.AccessEntry.Username != want || !slices.Equal(created.AccessEntry.KubernetesGroups, []string{"ovens"}) {
			t.Errorf("%q: %+v, %v", username, created, err)
		}
		if _, err := s.DeleteAccessEntry(ctx, &awseks.DeleteAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(nodeRole)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATokenMakesOneEntryOnly(t *testing.T) {
	s, ctx := withEntry(t, "STANDARD"), t.Context()
	input := &awseks.CreateAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(nodeRole), ClientRequestToken: aws.String("token-1")}
	if _, err := s.CreateAccessEntry(ctx, input); err != nil {
		t.Fatal(err)
	}
	input.PrincipalArn = aws.String(adminARN + "2")
	_, err := s.CreateAccessEntry(ctx, input)
	checkRefusal(t, err, "*types.InvalidParameterException", "clientRequestToken")
}

func TestAnAccessEntryIsUpdatedOnceForEachToken(t *testing.T) {
	s, ctx := withEntry(t, "STANDARD"), t.Context()
	update := func(token, username string, groups ...string) *awseks.UpdateAccessEntryInput {
		in := &awseks.UpdateAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), ClientRequestToken: aws.String(token), KubernetesGroups: groups}
		if username != "" {
			in.Username = aws.String(username)
		}
		return in
	}
	first, err := s.UpdateAccessEntry(ctx, update("1", "ci:jane", "bakers"))
	if err != nil || *first.AccessEntry.Username != "ci:jane" || !slices.Equal(first.AccessEntry.KubernetesGroups, []string{"bakers"}) || !first.AccessEntry.ModifiedAt.After(*first.AccessEntry.CreatedAt) {
		t.Fatalf("first: %+v, %v", first, err)
	}
	second, err := s.UpdateAccessEntry(ctx, update("2", ""))
	if err != nil || *second.AccessEntry.Username != "ci:jane" || !slices.Equal(second.AccessEntry.KubernetesGroups, []string{"bakers"}) {
		t.Errorf("of nothing: %+v, %v", second, err)
	}
	empty := update("3", "")
	empty.KubernetesGroups = []string{}
	if third, err := s.UpdateAccessEntry(ctx, empty); err != nil || len(third.AccessEntry.KubernetesGroups) != 0 {
		t.Errorf("no groups: %+v, %v", third, err)
	}
	// A retry that comes late does not undo what was asked for since.
	if late, err := s.UpdateAccessEntry(ctx, update("1", "ci:jane", "bakers")); err != nil || len(late.AccessEntry.KubernetesGroups) != 0 {
		t.Errorf("a late retry: %+v, %v", late, err)
	}
	_, err = s.UpdateAccessEntry(ctx, update("1", "ci:jane", "cooks"))
	checkRefusal(t, err, "*types.InvalidParameterException", "clientRequestToken")
	_, err = s.UpdateAccessEntry(ctx, update("4", "", "system:masters"))
	checkRefusal(t, err, "*types.InvalidParameterException", "kubernetesGroups")
	in := update("5", "")
	in.PrincipalArn = aws.String(nodeRole)
	_, err = s.UpdateAccessEntry(ctx, in)
	checkRefusal(t, err, "*types.ResourceNotFoundException", "principalArn")
}
