package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

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
		createEntryCommand(), listEntriesCommand(), describeEntryCommand(), updateEntryCommand(), deleteEntryCommand()))
}

// entryView is an access entry as --output json prints it, in the API's words.
type entryView struct {
	ClusterName      string            `json:"clusterName"`
	PrincipalARN     string            `json:"principalArn"`
	ARN              string            `json:"accessEntryArn"`
	Type             string            `json:"type"`
	Username         string            `json:"username"`
	KubernetesGroups []string          `json:"kubernetesGroups"`
	CreatedAt        time.Time         `json:"createdAt"`
	ModifiedAt       time.Time         `json:"modifiedAt"`
	Tags             map[string]string `json:"tags,omitempty"`
}

func entryTable(entries ...entryView) func(io.Writer) error {
	rows := [][]string{{"PRINCIPAL", "TYPE", "USERNAME", "GROUPS"}}
	for _, e := range entries {
		rows = append(rows, []string{e.PrincipalARN, e.Type, e.Username, strings.Join(e.KubernetesGroups, ",")})
	}
	return table(rows...)
}

func viewEntry(e *types.AccessEntry) entryView {
	return entryView{
		ClusterName: aws.ToString(e.ClusterName), PrincipalARN: aws.ToString(e.PrincipalArn), ARN: aws.ToString(e.AccessEntryArn),
		Type: aws.ToString(e.Type), Username: aws.ToString(e.Username), KubernetesGroups: e.KubernetesGroups,
		CreatedAt: aws.ToTime(e.CreatedAt), ModifiedAt: aws.ToTime(e.ModifiedAt), Tags: e.Tags,
	}
}

func entryDetails(e entryView) func(io.Writer) error {
	rows := [][]string{
		{"principal", e.PrincipalARN},
		{"arn", e.ARN},
		{"type", e.Type},
		{"username", e.Username},
		{"groups", strings.Join(e.KubernetesGroups, ", ")},
		{"created", local(e.CreatedAt)},
		{"modified", local(e.ModifiedAt)},
	}
	return table(append(rows, tagRows(e.Tags)...)...)
}

// principalFlag gives cmd the flag that names whose entry it is about.
func principalFlag(cmd *cobra.Command, principal *string) {
	cmd.Flags().StringVar(principal, "principal-arn", "", "ARN of an IAM role or user")
	_ = cmd.MarkFlagRequired("principal-arn") // fails only for a flag that is not there
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
	principalFlag(cmd, &flags.principal)
	f := cmd.Flags()
	f.StringVar(&flags.kind, "type", "STANDARD", "STANDARD, or EC2_LINUX for the role of nodes")
	f.StringVar(&flags.username, "username", "", "Kubernetes user name (default: the caller's ARN)")
	f.StringSliceVar(&flags.groups, "groups", nil, "Kubernetes groups")
	f.BoolVar(&flags.ifMissing, "if-missing", false, "leave an entry of the same type as it is")
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		entry, err := createEntry(ctx, client, args[0], flags)
		if err != nil {
			return nil, nil, err
		}
		return viewEntry(entry), entryTable(viewEntry(entry)), nil
	})
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
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		entries, err := listEntries(ctx, client, args[0])
		if err != nil {
			return nil, nil, err
		}
		return entries, entryTable(entries...), nil
	})
}

func listEntries(ctx context.Context, client *eks.Client, cluster string) ([]entryView, error) {
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

func describeEntryCommand() *cobra.Command {
	var principal string
	cmd := &cobra.Command{
		Use: "describe NAME --principal-arn ARN", Short: "Show one access entry",
		Example: "  ovenbird access-entry describe demo --principal-arn arn:aws:iam::111122223333:user/jane", Args: oneCluster,
	}
	principalFlag(cmd, &principal)
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		entry, err := describeEntry(ctx, client, args[0], principal)
		if err != nil {
			return nil, nil, err
		}
		return viewEntry(entry), entryDetails(viewEntry(entry)), nil
	})
}

func updateEntryCommand() *cobra.Command {
	var flags entryFlags
	cmd := &cobra.Command{
		Use: "update NAME --principal-arn ARN", Short: "Change who a principal is in a cluster",
		Example: "  ovenbird access-entry update demo --principal-arn arn:aws:iam::111122223333:user/jane --groups bakers,shopkeepers\n" +
			"  ovenbird access-entry update demo --principal-arn arn:aws:iam::111122223333:user/jane --username jane",
		Args: oneCluster,
	}
	principalFlag(cmd, &flags.principal)
	cmd.Flags().StringVar(&flags.username, "username", "", "Kubernetes user name (default: it stays)")
	cmd.Flags().StringSliceVar(&flags.groups, "groups", nil, `Kubernetes groups, in place of those before; "" for none (default: they stay)`)
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		input := &eks.UpdateAccessEntryInput{ClusterName: aws.String(args[0]), PrincipalArn: aws.String(flags.principal), KubernetesGroups: flags.groups}
		if flags.username != "" {
			input.Username = aws.String(flags.username)
		}
		if input.KubernetesGroups == nil && input.Username == nil {
			return cli.Usage(errors.New("want --username, --groups or both"))
		}
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		out, err := call(cmd.Context(), client.UpdateAccessEntry, input)
		if err != nil {
			return apiError("update access entry of "+flags.principal+" in cluster "+args[0], err)
		}
		return output.Print(cmd.OutOrStdout(), viewEntry(out.AccessEntry), entryTable(viewEntry(out.AccessEntry)))
	}
	return cmd
}

func deleteEntryCommand() *cobra.Command {
	var principal string
	cmd := &cobra.Command{
		Use: "delete NAME --principal-arn ARN", Short: "Shut a principal out of a cluster",
		Example: "  ovenbird access-entry delete demo --principal-arn arn:aws:iam::111122223333:user/jane", Args: oneCluster,
	}
	principalFlag(cmd, &principal)
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
