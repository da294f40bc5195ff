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
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// ClusterCommand is `ovenbird cluster`.
func ClusterCommand() *cobra.Command {
	return authenticated(group("cluster", "Create, look at, change and delete clusters through the EKS API",
		"  ovenbird cluster create demo --subnets subnet-1,subnet-2 --wait\n  ovenbird cluster list",
		createCommand(), listCommand(), describeCommand(), waitCommand(), updateConfigCommand(), updatesCommand(), versionsCommand(), deleteCommand()))
}

type createFlags struct {
	version, roleARN, serviceCIDR string
	subnets, securityGroups       []string
	tags                          map[string]string
	settings                      settingFlags
	wait                          waitFlags
}

func createCommand() *cobra.Command {
	var flags createFlags
	cmd := &cobra.Command{
		Use:   "create NAME --subnets ID,ID",
		Short: "Create a cluster; its creator becomes its administrator",
		Example: "  ovenbird cluster create demo --subnets \"$OVENBIRD_SUBNETS\" --wait\n" +
			"  ovenbird cluster create demo --subnets subnet-1,subnet-2 --version 1.37 --logging audit --deletion-protection --tag team=bakers",
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringSliceVar(&flags.subnets, "subnets", nil, "IDs of at least two subnets in different zones of one VPC")
	f.StringVar(&flags.version, "version", "", "Kubernetes minor version (default: the newest on offer)")
	f.StringVar(&flags.serviceCIDR, "service-cidr", "", "addresses for Services (default: a block that the VPC leaves free)")
	f.StringSliceVar(&flags.securityGroups, "security-groups", nil, "IDs of security groups to record with the cluster")
	f.StringToStringVar(&flags.tags, "tag", nil, "tag of the cluster, KEY=VALUE")
	f.StringVar(&flags.roleARN, "role-arn", "", "IAM role to record as the cluster's; nothing assumes it yet (default: ovenbird-cluster in the caller's account)")
	flags.settings.add(cmd)
	flags.wait.add(cmd, "the cluster is ACTIVE")
	_ = cmd.MarkFlagRequired("subnets") // fails only for a flag that is not there
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := create(cmd.Context(), args[0], flags, flags.settings.given(cmd), newProgress(cmd.ErrOrStderr()))
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), view(c), clusterTable(c))
	}
	return cmd
}

func create(ctx context.Context, name string, flags createFlags, given settings, progress *progress) (*types.Cluster, error) {
	loaded, client, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := requireEndpoint(client); err != nil {
		return nil, err
	}
	if flags.roleARN == "" {
		if flags.roleARN, err = defaultRole(ctx, loaded); err != nil {
			return nil, err
		}
	}
	input := &eks.CreateClusterInput{
		Name: aws.String(name), RoleArn: aws.String(flags.roleARN), Tags: flags.tags,
		ResourcesVpcConfig: &types.VpcConfigRequest{SubnetIds: flags.subnets, SecurityGroupIds: flags.securityGroups},
	}
	if flags.version != "" {
		input.Version = aws.String(flags.version)
	}
	if flags.serviceCIDR != "" {
		input.KubernetesNetworkConfig = &types.KubernetesNetworkConfigRequest{ServiceIpv4Cidr: aws.String(flags.serviceCIDR)}
	}
	given.create(input)
	out, err := call(ctx, client.CreateCluster, input)
	if err != nil {
		return nil, apiError("create cluster "+name, err)
	}
	if !flags.wait.wait {
		return out.Cluster, nil
	}
	return waitActive(ctx, client, name, flags.wait.timeout, progress)
}

// defaultRole names a role of the caller's own account.
func defaultRole(ctx context.Context, loaded aws.Config) (string, error) {
	caller, err := call(ctx, sts.NewFromConfig(loaded).GetCallerIdentity, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", apiError("ask STS for the account, for want of --role-arn", err)
	}
	partition := "aws"
	if parts := strings.SplitN(aws.ToString(caller.Arn), ":", 3); len(parts) == 3 {
		partition = parts[1]
	}
	return fmt.Sprintf("arn:%s:iam::%s:role/ovenbird-cluster", partition, aws.ToString(caller.Account)), nil
}

func listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the clusters",
		Example: "  ovenbird cluster list --output json", Args: cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		clusters, err := list(cmd.Context())
		if err != nil {
			return err
		}
		views := make([]clusterView, 0, len(clusters))
		for _, c := range clusters {
			views = append(views, view(c))
		}
		return output.Print(cmd.OutOrStdout(), views, clusterTable(clusters...))
	}
	return cmd
}

func list(ctx context.Context) ([]*types.Cluster, error) {
	_, client, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	names, err := allOf(ctx, eks.NewListClustersPaginator(client, &eks.ListClustersInput{}), func(page *eks.ListClustersOutput) []string { return page.Clusters })
	if err != nil {
		return nil, apiError("list clusters", err)
	}
	var clusters []*types.Cluster
	for _, name := range names {
		c, err := describe(ctx, client, name)
		if isNotFound(err) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, apiError("describe cluster "+name, err)
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

func describeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "describe NAME", Short: "Show one cluster",
		Example: "  ovenbird cluster describe demo --output json", Args: oneCluster,
	}
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		c, err := describe(ctx, client, args[0])
		if err != nil {
			return nil, nil, apiError("describe cluster "+args[0], err)
		}
		return view(c), clusterDetails(c), nil
	})
}

func waitCommand() *cobra.Command {
	var flags waitFlags
	cmd := &cobra.Command{
		Use: "wait NAME", Short: "Wait until a cluster is ACTIVE",
		Example: "  ovenbird cluster wait demo --timeout 5m", Args: oneCluster,
	}
	flags.addTimeout(cmd)
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		c, err := waitActive(ctx, client, args[0], flags.timeout, newProgress(cmd.ErrOrStderr()))
		if err != nil {
			return nil, nil, err
		}
		return view(c), clusterTable(c), nil
	})
}

func deleteCommand() *cobra.Command {
	var flags waitFlags
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a cluster with everything in it",
		Example: "  ovenbird cluster delete demo --wait", Args: oneCluster,
	}
	flags.add(cmd, "the cluster is gone")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := remove(cmd.Context(), args[0], flags, newProgress(cmd.ErrOrStderr()))
		if err != nil {
			return err
		}
		shown := clusterTable(c)
		if flags.wait {
			shown = func(w io.Writer) error { _, err := fmt.Fprintf(w, "cluster %s is gone\n", args[0]); return err }
		}
		return output.Print(cmd.OutOrStdout(), view(c), shown)
	}
	return cmd
}

func remove(ctx context.Context, name string, flags waitFlags, progress *progress) (*types.Cluster, error) {
	_, client, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := requireEndpoint(client); err != nil {
		return nil, err
	}
	out, err := call(ctx, client.DeleteCluster, &eks.DeleteClusterInput{Name: aws.String(name)})
	if err != nil {
		return nil, apiError("delete cluster "+name, err)
	}
	if flags.wait {
		if err := waitGone(ctx, client, name, flags.timeout, progress); err != nil {
			return nil, err
		}
	}
	return out.Cluster, nil
}

func isNotFound(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}
