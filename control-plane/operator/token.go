package operator

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// sessionName is what the AWS CLI calls the session of a role that it assumes for a token.
const sessionName = "EKSGetTokenAuth"

// GetTokenCommand is `ovenbird get-token`.
func GetTokenCommand() *cobra.Command {
	var cluster, region, role string
	cmd := &cobra.Command{
		Use:   "get-token --cluster-name NAME",
		Short: "Print a token for a cluster's API server, as kubectl asks for it",
		Long: `Print a token for a cluster's API server, as kubectl asks for it.

It does what ` + "`aws eks get-token`" + ` does, and kubectl runs it by the kubeconfig that
` + "`ovenbird update-kubeconfig`" + ` writes. The token is a request to STS that is signed and not
sent, so this calls nobody, unless it is to assume a role. A token is good for 15 minutes:
it is a secret, and it is offered for 14.`,
		Example: "  ovenbird get-token --cluster-name demo",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&cluster, "cluster-name", "", "name of the cluster")
	cmd.Flags().StringVar(&region, "region", "", "AWS region of the cluster (default: the environment's)")
	cmd.Flags().StringVar(&role, "role-arn", "", "IAM role to assume and to sign as")
	_ = cmd.MarkFlagRequired("cluster-name") // fails only for a flag that is not there
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !registry.ValidName(cluster) {
			return cli.Usage(fmt.Errorf("--cluster-name: %.120q is not a cluster name", cluster))
		}
		version, err := ststoken.ExecVersion(os.Getenv(ststoken.ExecInfo), ststoken.ExecV1beta1)
		if err != nil {
			return err
		}
		token, expires, err := makeToken(cmd.Context(), cluster, region, role)
		if err != nil {
			return err
		}
		return ststoken.WriteExecCredential(cmd.OutOrStdout(), version, token, expires)
	}
	return cmd
}

func makeToken(ctx context.Context, cluster, region, role string) (token string, expires time.Time, err error) {
	loaded, err := load(ctx, region)
	if err != nil {
		return "", time.Time{}, err
	}
	endpoint, err := stsEndpoint(ctx, loaded)
	if err != nil {
		return "", time.Time{}, err
	}
	signer := ststoken.Signer{Credentials: loaded.Credentials, Region: loaded.Region, Endpoint: endpoint}
	if role != "" {
		signer.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(loaded), role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = sessionName
		}))
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return signer.Token(ctx, cluster)
}

// stsEndpoint is where whoever verifies the token has to ask: the STS that the AWS
// configuration names, else the region's own.
func stsEndpoint(ctx context.Context, loaded aws.Config) (string, error) {
	if named := sts.NewFromConfig(loaded).Options().BaseEndpoint; named != nil {
		return *named, nil
	}
	resolved, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: aws.String(loaded.Region)})
	if err != nil {
		return "", fmt.Errorf("find the STS of region %s: %w", loaded.Region, err)
	}
	return resolved.URI.String(), nil
}
