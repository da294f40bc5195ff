package operator

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

const (
	viewPolicyExample = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
	janeExample       = "arn:aws:iam::111122223333:user/jane"
)

// AccessPolicyCommand is `ovenbird access-policy`.
func AccessPolicyCommand() *cobra.Command {
	return authenticated(group("access-policy", "Say what the principals with access entries may do in a cluster",
		"  ovenbird access-policy list\n  ovenbird access-policy list-associated demo --principal-arn "+janeExample,
		listPoliciesCommand(), listAssociatedCommand(), associateCommand(), disassociateCommand()))
}

// policyFlags name the policy of an entry.
type policyFlags struct {
	principal, policy string
	namespaces        []string
}

func (f *policyFlags) add(cmd *cobra.Command) {
	principalFlag(cmd, &f.principal)
	cmd.Flags().StringVar(&f.policy, "policy-arn", "", "ARN of an access policy, of those that ovenbird access-policy list shows")
	_ = cmd.MarkFlagRequired("policy-arn") // fails only for a flag that is not there
}

func listPoliciesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the access policies that there are",
		Example: "  ovenbird access-policy list", Args: cobra.NoArgs,
	}
	return answer(cmd, func(ctx context.Context, client *eks.Client, _ []string) (any, printer, error) {
		pages := eks.NewListAccessPoliciesPaginator(client, &eks.ListAccessPoliciesInput{})
		policies, err := allOf(ctx, pages, func(page *eks.ListAccessPoliciesOutput) []types.AccessPolicy { return page.AccessPolicies })
		if err != nil {
			return nil, nil, apiError("list access policies", err)
		}
		views, rows := []policyView{}, [][]string{{"NAME", "ARN"}}
		for _, p := range policies {
			v := policyView{aws.ToString(p.Name), aws.ToString(p.Arn)}
			views, rows = append(views, v), append(rows, []string{v.Name, v.ARN})
		}
		return views, table(rows...), nil
	})
}

// policyView is an access policy as --output json prints it, in the API's words.
type policyView struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
}

// associationView is a policy of an access entry as --output json prints it, in the API's
// words.
type associationView struct {
	PolicyARN    string    `json:"policyArn"`
	Scope        scopeView `json:"accessScope"`
	AssociatedAt time.Time `json:"associatedAt"`
	ModifiedAt   time.Time `json:"modifiedAt"`
}

type scopeView struct {
	Type       string   `json:"type"`
	Namespaces []string `json:"namespaces"`
}

func viewAssociation(p types.AssociatedAccessPolicy) associationView {
	v := associationView{PolicyARN: aws.ToString(p.PolicyArn), AssociatedAt: aws.ToTime(p.AssociatedAt), ModifiedAt: aws.ToTime(p.ModifiedAt)}
	if p.AccessScope != nil {
		v.Scope = scopeView{string(p.AccessScope.Type), p.AccessScope.Namespaces}
	}
	return v
}

func associationTable(associations ...associationView) func(io.Writer) error {
	rows := [][]string{{"POLICY", "SCOPE", "NAMESPACES", "MODIFIED"}}
	for _, a := range associations {
		rows = append(rows, []string{a.PolicyARN, a.Scope.Type, strings.Join(a.Scope.Namespaces, ","), local(a.ModifiedAt)})
	}
	return table(rows...)
}

func listAssociatedCommand() *cobra.Command {
	var principal string
	cmd := &cobra.Command{
		Use: "list-associated NAME --principal-arn ARN", Short: "List the policies of a principal in a cluster",
		Example: "  ovenbird access-policy list-associated demo --principal-arn " + janeExample, Args: oneCluster,
	}
	principalFlag(cmd, &principal)
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		associations, err := listAssociated(ctx, client, args[0], principal)
		if err != nil {
			return nil, nil, apiError("list policies of "+principal+" in cluster "+args[0], err)
		}
		return associations, associationTable(associations...), nil
	})
}

func listAssociated(ctx context.Context, client *eks.Client, cluster, principal string) ([]associationView, error) {
	pages := eks.NewListAssociatedAccessPoliciesPaginator(client, &eks.ListAssociatedAccessPoliciesInput{ClusterName: aws.String(cluster), PrincipalArn: aws.String(principal)})
	policies, err := allOf(ctx, pages, func(page *eks.ListAssociatedAccessPoliciesOutput) []types.AssociatedAccessPolicy {
		return page.AssociatedAccessPolicies
	})
	associations := []associationView{}
	for _, p := range policies {
		associations = append(associations, viewAssociation(p))
	}
	return associations, err
}

func associateCommand() *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use:   "associate NAME --principal-arn ARN --policy-arn ARN",
		Short: "Give a principal a policy in a cluster, or another scope of it",
		Example: "  ovenbird access-policy associate demo --principal-arn " + janeExample + " --policy-arn " + viewPolicyExample + "\n" +
			"  ovenbird access-policy associate demo --principal-arn " + janeExample + " --policy-arn " + viewPolicyExample + " --namespaces bakery,'shop-*'",
		Args: oneCluster,
	}
	flags.add(cmd)
	cmd.Flags().StringSliceVar(&flags.namespaces, "namespaces", nil, "namespaces in which it holds; a name may begin or end with * (default: the whole cluster)")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scope := &types.AccessScope{Type: types.AccessScopeTypeCluster}
		// An empty list must not open the whole cluster: the API refuses it.
		if cmd.Flags().Changed("namespaces") {
			scope = &types.AccessScope{Type: types.AccessScopeTypeNamespace, Namespaces: flags.namespaces}
		}
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		out, err := call(cmd.Context(), client.AssociateAccessPolicy, &eks.AssociateAccessPolicyInput{
			ClusterName: aws.String(args[0]), PrincipalArn: aws.String(flags.principal), PolicyArn: aws.String(flags.policy), AccessScope: scope,
		})
		if err != nil {
			return apiError("associate access policy with "+flags.principal+" in cluster "+args[0], err)
		}
		associated := viewAssociation(*out.AssociatedAccessPolicy)
		return output.Print(cmd.OutOrStdout(), associated, associationTable(associated))
	}
	return cmd
}

func disassociateCommand() *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use: "disassociate NAME --principal-arn ARN --policy-arn ARN", Short: "Take a policy from a principal in a cluster",
		Example: "  ovenbird access-policy disassociate demo --principal-arn " + janeExample + " --policy-arn " + viewPolicyExample, Args: oneCluster,
	}
	flags.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		_, err = call(cmd.Context(), client.DisassociateAccessPolicy, &eks.DisassociateAccessPolicyInput{
			ClusterName: aws.String(args[0]), PrincipalArn: aws.String(flags.principal), PolicyArn: aws.String(flags.policy),
		})
		return apiError("disassociate access policy from "+flags.principal+" in cluster "+args[0], err)
	}
	return cmd
}
