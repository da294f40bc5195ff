package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// tokenTimeout is long enough for instance metadata on a busy machine; kubelet waits.
const tokenTimeout = 30 * time.Second

func tokenCommand() *cobra.Command {
	var cluster, region, endpoint string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a token for the cluster's API server, as kubelet asks for it",
		Long: `token prints an ExecCredential with a token that proves to the cluster's API server which
role the instance has. kubelet runs it, by its kubeconfig, on clusters of Amazon EKS. A token is
good for 15 minutes: it is a secret, and it is offered for 14.`,
		Example: `  ovenbird-agent token --cluster demo`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster's name")
	cmd.Flags().StringVar(&region, "region", "", "the region (default: the instance's)")
	cmd.Flags().StringVar(&endpoint, "sts-endpoint", "", "where the API server asks STS (default: by AWS_ENDPOINT_URL_STS, else the region's)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !nodeconfig.IsClusterName(cluster) {
			return cli.Usage(fmt.Errorf("--cluster: %q is not a cluster name", cluster))
		}
		version, err := ststoken.ExecVersion(os.Getenv(ststoken.ExecInfo), ststoken.ExecV1)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), tokenTimeout)
		defer cancel()
		metadata := imds.New("", nil)
		if region == "" {
			instance, err := metadata.Instance(ctx)
			if err != nil {
				return err
			}
			region = instance.Region
		}
		if endpoint == "" {
			endpoint = boot.STSEndpoint(os.Environ(), region)
		}
		signer := ststoken.Signer{Credentials: metadata.Credentials(), Region: region, Endpoint: endpoint}
		token, expires, err := signer.Token(ctx, cluster)
		if err != nil {
			return err
		}
		return ststoken.WriteExecCredential(cmd.OutOrStdout(), version, token, expires)
	}
	return cmd
}
