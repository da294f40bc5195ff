package eks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseks "github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// checkRefusal demands an exception of the SDK's with a message.
func checkRefusal(t *testing.T, err error, kind, message string) {
	t.Helper()
	inner := err
	for {
		wrapping, ok := inner.(interface{ Unwrap() error })
		if !ok {
			break
		}
		inner = wrapping.Unwrap()
	}
	if fmt.Sprintf("%T", inner) != kind || !strings.Contains(fmt.Sprint(inner), message) {
		t.Errorf("got %T %v, want %s with %q", inner, err, kind, message)
	}
}

const deployer = "arn:aws:iam::111122223333:role/team/deployer"

// withEntry is start with a cluster named kitchen and an entry of the deployer's.
func withEntry(t *testing.T, kind string) service {
	t.Helper()
	s := start(t, network{})
	if _, err := s.CreateCluster(t.Context(), createInput("kitchen")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAccessEntry(t.Context(), &awseks.CreateAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), Type: aws.String(kind)}); err != nil {
		t.Fatal(err)
	}
	return s
}

func associateInput(policy string, namespaces ...string) *awseks.AssociateAccessPolicyInput {
	scope := &types.AccessScope{Type: types.AccessScopeTypeCluster}
	if len(namespaces) > 0 {
		scope = &types.AccessScope{Type: types.AccessScopeTypeNamespace, Namespaces: namespaces}
	}
	return &awseks.AssociateAccessPolicyInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), PolicyArn: aws.String(policy), AccessScope: scope}
}

func TestPoliciesAreAssociatedGivenAnotherScopeAndTakenAway(t *testing.T) {
	s, ctx := withEntry(t, "STANDARD"), t.Context()
	first, err := s.AssociateAccessPolicy(ctx, associateInput(registry.ViewPolicy))
	if err != nil {
		t.Fatal(err)
	}
	if p := first.AssociatedAccessPolicy; *p.PolicyArn != registry.ViewPolicy || p.AccessScope.Type != types.AccessScopeTypeCluster || *first.PrincipalArn != deployer || p.AssociatedAt == nil {
		t.Errorf("associated: %+v", first)
	}
	again, err := s.AssociateAccessPolicy(ctx, associateInput(registry.ViewPolicy, "team-*", "*-dev", "*"))
	if err != nil || !again.AssociatedAccessPolicy.AssociatedAt.Equal(*first.AssociatedAccessPolicy.AssociatedAt) || !slices.Equal(again.AssociatedAccessPolicy.AccessScope.Namespaces, []string{"team-*", "*-dev", "*"}) {
		t.Errorf("with another scope: %+v, %v", again, err)
	}
	if _, err := s.AssociateAccessPolicy(ctx, associateInput(registry.AdminPolicy, "kitchen")); err != nil {
		t.Fatal(err)
	}
	var got []string
	pages := awseks.NewListAssociatedAccessPoliciesPaginator(s, &awseks.ListAssociatedAccessPoliciesInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), MaxResults: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil || len(page.AssociatedAccessPolicies) != 1 {
			t.Fatalf("got %+v, %v", page, err)
		}
		got = append(got, *page.AssociatedAccessPolicies[0].PolicyArn)
	}
	if !slices.Equal(got, []string{registry.AdminPolicy, registry.ViewPolicy}) {
		t.Errorf("list: %v", got)
	}
	disassociate := &awseks.DisassociateAccessPolicyInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), PolicyArn: aws.String(registry.ViewPolicy)}
	if _, err := s.DisassociateAccessPolicy(ctx, disassociate); err != nil {
		t.Fatal(err)
	}
	_, err = s.DisassociateAccessPolicy(ctx, disassociate)
	checkRefusal(t, err, "*types.ResourceNotFoundException", "is not associated")
	entry, err := s.registry.GetAccessEntry(ctx, "kitchen", deployer)
	if err != nil || len(entry.Policies) != 1 || entry.Policies[0].ARN != registry.AdminPolicy || !slices.Equal(entry.Policies[0].Namespaces, []string{"kitchen"}) {
		t.Errorf("stored: %+v, %v", entry, err)
	}
}

func TestAssociationsThatMakeNoSenseAreRefused(t *testing.T) {
	s := withEntry(t, "STANDARD")
	type in = awseks.AssociateAccessPolicyInput
	invalid, missing := "*types.InvalidParameterException", "*types.ResourceNotFoundException"
	for name, test := range map[string]struct {
		change     func(*in)
		kind, want string
	}{
		"a policy that is not offered": {func(i *in) {
			i.PolicyArn = aws.String("arn:aws:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy")
		}, missing, "policyArn could not be found"},
		"a principal without an entry": {func(i *in) { i.PrincipalArn = aws.String(nodeRole) }, missing, "principalArn could not be found"},
		"another cluster":              {func(i *in) { i.ClusterName = aws.String("nowhere") }, missing, "No cluster found for name: nowhere."},
		"a cluster with namespaces":    {func(i *in) { i.AccessScope = &types.AccessScope{Type: "cluster", Namespaces: []string{"a"}} }, invalid, "has none"},
		"no namespaces":                {func(i *in) { i.AccessScope = &types.AccessScope{Type: "namespace"} }, invalid, "at least one"},
		"another scope":                {func(i *in) { i.AccessScope = &types.AccessScope{Type: "node"} }, invalid, "accessScope.type"},
		"no scope type":                {func(i *in) { i.AccessScope = &types.AccessScope{} }, invalid, "accessScope.type"},
		"a star in the middle":         {func(i *in) { i.AccessScope.Namespaces = []string{"a*b"} }, invalid, "may begin or end with *"},
		"stars on both sides":          {func(i *in) { i.AccessScope.Namespaces = []string{"*a*"} }, invalid, "may begin or end with *"},
		"no namespace's name":          {func(i *in) { i.AccessScope.Namespaces = []string{"Team"} }, invalid, "is not a namespace"},
		"a name of 64 characters":      {func(i *in) { i.AccessScope.Namespaces = []string{strings.Repeat("a", 64)} }, invalid, "is not a namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			input := associateInput(registry.EditPolicy, "kitchen")
			test.change(input)
			_, err := s.AssociateAccessPolicy(t.Context(), input)
			checkRefusal(t, err, test.kind, test.want)
		})
	}
}

func TestANodesEntryHasNoPoliciesAndStaysAsItIs(t *testing.T) {
	s, ctx := withEntry(t, "EC2_LINUX"), t.Context()
	_, err := s.AssociateAccessPolicy(ctx, associateInput(registry.ViewPolicy))
	checkRefusal(t, err, "*types.InvalidRequestException", "EC2_LINUX")
	_, err = s.UpdateAccessEntry(ctx, &awseks.UpdateAccessEntryInput{ClusterName: aws.String("kitchen"), PrincipalArn: aws.String(deployer), KubernetesGroups: []string{"bakers"}})
	checkRefusal(t, err, "*types.InvalidRequestException", "EC2_LINUX")
}

func TestPoliciesOnOfferAreListedPageByPage(t *testing.T) {
	s := start(t, network{})
	var names []string
	pages := awseks.NewListAccessPoliciesPaginator(s, &awseks.ListAccessPoliciesInput{MaxResults: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.AccessPolicies {
			names = append(names, *p.Name)
		}
	}
	if want := []string{"AmazonEKSAdminPolicy", "AmazonEKSClusterAdminPolicy", "AmazonEKSEditPolicy", "AmazonEKSViewPolicy"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestOnlyThePrincipalsOwnARNFindsItsEntry(t *testing.T) {
	s, ctx := withEntry(t, "STANDARD"), t.Context()
	// Without its path, this is the deployer.
	stranger := aws.String("arn:aws:iam::111122223333:role/a b/deployer")
	name, kind, message := aws.String("kitchen"), "*types.ResourceNotFoundException", "principalArn"
	_, err := s.DescribeAccessEntry(ctx, &awseks.DescribeAccessEntryInput{ClusterName: name, PrincipalArn: stranger})
	checkRefusal(t, err, kind, message)
	policy := associateInput(registry.ClusterAdminPolicy)
	policy.PrincipalArn = stranger
	_, err = s.AssociateAccessPolicy(ctx, policy)
	checkRefusal(t, err, kind, message)
	_, err = s.DeleteAccessEntry(ctx, &awseks.DeleteAccessEntryInput{ClusterName: name, PrincipalArn: stranger})
	checkRefusal(t, err, kind, message)
	if _, err := s.DescribeAccessEntry(ctx, &awseks.DescribeAccessEntryInput{ClusterName: name, PrincipalArn: aws.String(deployer)}); err != nil {
		t.Error(err)
	}
}
