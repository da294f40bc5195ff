package operator

import (
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/spf13/cobra"
)

func versionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "versions", Short: "List the Kubernetes versions that a new cluster can have",
		Example: "  ovenbird cluster versions", Args: cobra.NoArgs,
	}
	return answer(cmd, func(ctx context.Context, client *eks.Client, _ []string) (any, printer, error) {
		pages := eks.NewDescribeClusterVersionsPaginator(client, &eks.DescribeClusterVersionsInput{})
		versions, err := allOf(ctx, pages, func(page *eks.DescribeClusterVersionsOutput) []types.ClusterVersionInformation {
			return page.ClusterVersions
		})
		if err != nil {
			return nil, nil, apiError("list cluster versions", err)
		}
		views := viewVersions(versions)
		return views, versionTable(views), nil
	})
}

// versionView is a version as --output json prints it, in the API's words.
type versionView struct {
	Version         string `json:"clusterVersion"`
	Patch           string `json:"kubernetesPatchVersion,omitempty"`
	PlatformVersion string `json:"defaultPlatformVersion"`
	Status          string `json:"versionStatus"`
	Default         bool   `json:"defaultVersion"`
}

func viewVersions(versions []types.ClusterVersionInformation) []versionView {
	views := make([]versionView, 0, len(versions))
	for _, v := range versions {
		views = append(views, versionView{
			aws.ToString(v.ClusterVersion), aws.ToString(v.KubernetesPatchVersion), aws.ToString(v.DefaultPlatformVersion), string(v.VersionStatus), v.DefaultVersion,
		})
	}
	return views
}

func versionTable(versions []versionView) func(io.Writer) error {
	rows := [][]string{{"VERSION", "PATCH", "STATUS", "DEFAULT"}}
	for _, v := range versions {
		isDefault := ""
		if v.Default {
			isDefault = "yes"
		}
		rows = append(rows, []string{v.Version, v.Patch, v.Status, isDefault})
	}
	return table(rows...)
}
