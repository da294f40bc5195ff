package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// AccessEntryCommand is `ovenbird access-entry`.
func AccessEntryCommand() *cobra.Command {
	return authenticated(group("access-entry", "Say which IAM principals may enter a cluster, and as what",
		"  ovenbird access-entry create demo --principal-arn arn:aws:iam::111122223333:role/ovenbird-node --type EC2_LINUX",
		createEntryCommand(), listEntriesCommand(), deleteEntryCommand()))
}

// entryView is an access entry as --output json prints it, in the API's words.
type entryView struct {
	ClusterName      string   `json:"clusterName"`
	PrincipalARN     string   `json:"principalArn"`
	Type             string   `json:"type"`
	Username         string   `json:"username"`
	KubernetesGroups []string `json:"kubernetesGroups"`
}

func entryTable(entries ...entryView) func(io.Writer) error {
	rows := [][]string{{"PRINCIPAL", "TYPE", "USERNAME", "GROUPS"}}
	for _, e := range entries {
		rows = append(rows, []string{e.PrincipalARN, e.Type, e.Username, strings.Join(e.KubernetesGroups, ",")})
	}
	return table(rows...)
}

func viewEntry(e *types.AccessEntry) entryView {
	return entryView{aws.ToString(e.ClusterName), aws.ToString(e.PrincipalArn), aws.ToString(e.Type), aws.ToString(e.Username), e.KubernetesGroups}
}

type entryFlags struct {
	principal, kind, username string
	groups                    []string
	ifMissing                 bool
}

func createEntryCommand() *cobra.Command {
	var flags entryFlags
	cmd := &cobra.Command{
		Use: "create NAME --principal-arn ARN", Short: "Let a principal into a cluster",
		Example: "  ovenbird access-entry create demo --principal-arn arn:aws:iam::111122223333:role/ovenbird-node --type EC2_LINUX\n" +
			"  ovenbird access-entry create demo --principal-arn arn:aws:iam::111122223333:user/jane --groups bakers",
		Args: oneCluster,
	}
	f := cmd.Flags()
	f.StringVar(&flags.principal, "principal-arn", "", "ARN of an IAM role or user")
	f.StringVar(&flags.kind, "type", "STANDARD", "STANDARD, or EC2_LINUX for the role of nodes")
	f.StringVar(&flags.username, "username", "", "Kubernetes user name (default: the caller's ARN)")
	f.StringSliceVar(&flags.groups, "groups", nil, "Kubernetes groups")
	f.BoolVar(&flags.ifMissing, "if-missing", false, "leave an entry of the same type as it is")
	_ = cmd.MarkFlagRequired("principal-arn") // fails only for a flag that is not there
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		entry, err := createEntry(cmd.Context(), client, args[0], flags)
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), viewEntry(entry), entryTable(viewEntry(entry)))
	}
	return cmd
}

func createEntry(ctx context.Context, client *eks.Client, cluster string, flags entryFlags) (*types.AccessEntry, error) {
	doing := "create access entry of " + flags.principal + " in cluster " + cluster
	input := &eks.CreateAccessEntryInput{
		ClusterName: aws.String(cluster), PrincipalArn: aws.String(flags.principal), Type: aws.String(flags.kind), KubernetesGroups: flags.groups,
	}
	if flags.username != "" {
		input.Username = aws.String(flags.username)
	}
	out, err := call(ctx, client.CreateAccessEntry, input)
	var taken *types.ResourceInUseException
	if flags.ifMissing && errors.As(err, &taken) {
		entry, err := describeEntry(ctx, client, cluster, flags.principal)
		if err == nil && aws.ToString(entry.Type) != flags.kind {
			return nil, fmt.Errorf("%s: there is one already, of type %s", doing, aws.ToString(entry.Type))
		}
		return entry, err
	}
	if err != nil {
		return nil, apiError(doing, err)
	}
	return out.AccessEntry, nil
}

func describeEntry(ctx context.Context, client *eks.Client, cluster, principal string) (*types.AccessEntry, error) {
	out, err := call(ctx, client.DescribeAccessEntry, &eks.DescribeAccessEntryInput{ClusterName: aws.String(cluster), PrincipalArn: aws.String(principal)})
	if err != nil {
		return nil, apiError("describe access entry of "+principal+" in cluster "+cluster, err)
	}
	return out.AccessEntry, nil
}

func listEntriesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list NAME", Short: "List who may enter a cluster",
		Example: "  ovenbird access-entry list demo", Args: oneCluster,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		entries, err := listEntries(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), entries, entryTable(entries...))
	}
	return cmd
}

func listEntries(ctx context.Context, cluster string) ([]entryView, error) {
	_, client, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	pages := eks.NewListAccessEntriesPaginator(client, &eks.ListAccessEntriesInput{ClusterName: aws.String(cluster)})
	principals, err := allOf(ctx, pages, func(page *eks.ListAccessEntriesOutput) []string { return page.AccessEntries })
	if err != nil {
		return nil, apiError("list access entries of cluster "+cluster, err)
	}
	entries := []entryView{}
	for _, principal := range principals {
		entry, err := describeEntry(ctx, client, cluster, principal)
		if err != nil {
			return nil, err
		}
		entries = append(entries, viewEntry(entry))
	}
	return entries, nil
}

func deleteEntryCommand() *cobra.Command {
	var principal string
	cmd := &cobra.Command{
		Use: "delete NAME --principal-arn ARN", Short: "Shut a principal out of a cluster",
		Example: "  ovenbird access-entry delete demo --principal-arn arn:aws:iam::111122223333:user/jane", Args: oneCluster,
	}
	cmd.Flags().StringVar(&principal, "principal-arn", "", "ARN of the IAM role or user")
	_ = cmd.MarkFlagRequired("principal-arn") // fails only for a flag that is not there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		_, err = call(cmd.Context(), client.DeleteAccessEntry, &eks.DeleteAccessEntryInput{ClusterName: aws.String(args[0]), PrincipalArn: aws.String(principal)})
		return apiError("delete access entry of "+principal+" in cluster "+args[0], err)
	}
	return cmd
}
