package operator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// TagsCommand is `ovenbird tags`.
func TagsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tags CLUSTER|ARN", Short: "List the tags of a cluster or an access entry",
		Example: "  ovenbird tags demo --output json", Args: taggable(0),
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, arn, err := connectTo(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		out, err := call(cmd.Context(), client.ListTagsForResource, &eks.ListTagsForResourceInput{ResourceArn: aws.String(arn)})
		if err != nil {
			return apiError("list tags of "+args[0], err)
		}
		tags := map[string]string{} // not null in JSON
		maps.Copy(tags, out.Tags)
		rows := [][]string{{"KEY", "VALUE"}}
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			rows = append(rows, []string{key, tags[key]})
		}
		return output.Print(cmd.OutOrStdout(), tags, table(rows...))
	}
	return authenticated(cmd)
}

// TagCommand is `ovenbird tag`.
func TagCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tag CLUSTER|ARN KEY=VALUE...", Short: "Tag a cluster or an access entry",
		Example: "  ovenbird tag demo team=bakers stage=test", Args: taggable(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tags, err := parsePairs("tag", "KEY=VALUE", args[1:])
		if err != nil {
			return cli.Usage(err)
		}
		client, arn, err := connectTo(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		_, err = call(cmd.Context(), client.TagResource, &eks.TagResourceInput{ResourceArn: aws.String(arn), Tags: tags})
		return apiError("tag "+args[0], err)
	}
	return authenticated(cmd)
}

// UntagCommand is `ovenbird untag`.
func UntagCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "untag CLUSTER|ARN KEY...", Short: "Remove tags from a cluster or an access entry",
		Example: "  ovenbird untag demo team stage", Args: taggable(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, arn, err := connectTo(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		_, err = call(cmd.Context(), client.UntagResource, &eks.UntagResourceInput{ResourceArn: aws.String(arn), TagKeys: args[1:]})
		return apiError("untag "+args[0], err)
	}
	return authenticated(cmd)
}

// taggable is the argument check of commands about the tags of one resource. Those that
// change tags name at least one.
func taggable(tags int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < 1+tags || tags == 0 && len(args) > 1 {
			return fmt.Errorf("want %s", cmd.UseLine())
		}
		if !isARN(args[0]) && !registry.ValidName(args[0]) {
			return fmt.Errorf("%.120q is neither an ARN nor the name of a cluster", args[0])
		}
		return nil
	}
}

func isARN(s string) bool { return strings.HasPrefix(s, "arn:") }

// connectTo finds the ARN of what is named by it or, if it is a cluster, by its name.
func connectTo(ctx context.Context, resource string) (client *eks.Client, arn string, err error) {
	if _, client, err = connect(ctx); err != nil || isARN(resource) {
		return client, resource, err
	}
	c, err := describe(ctx, client, resource)
	if err != nil {
		return nil, "", apiError("describe cluster "+resource, err)
	}
	return client, aws.ToString(c.Arn), nil
}
