package main

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/ecr"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
)

// ecrTimeout ends before kubelet gives the command up, after a minute.
const ecrTimeout = 50 * time.Second

func ecrCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ecr-credentials",
		Short: "Answer kubelet, which asks for credentials for Amazon ECR",
		Long: `ecr-credentials is kubelet's image credential provider for private registries of Amazon
ECR. It reads a CredentialProviderRequest on standard input, asks ECR with the credentials of
the instance's role, and prints a CredentialProviderResponse: a secret. It asks at
AWS_ENDPOINT_URL_ECR or AWS_ENDPOINT_URL if one is set, and else in the registry's region.`,
		Example: `  echo '{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderRequest",
    "image":"111122223333.dkr.ecr.us-west-2.amazonaws.com/app"}' | ovenbird-agent ecr-credentials`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), ecrTimeout, errors.New("kubelet waits no longer"))
		defer cancel()
		client := ecr.Client{
			Credentials: imds.New("", nil).Credentials(),
			Endpoint:    cmp.Or(os.Getenv("AWS_ENDPOINT_URL_ECR"), os.Getenv("AWS_ENDPOINT_URL")),
			// The authorities of user-data are among the system's by now.
			HTTP:   awscall.NewClient(nil, boot.ProxyOf(os.Environ(), nil), nil),
			Random: rand.Float64,
		}
		return ecr.Provide(ctx, client, cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return cmd
}
