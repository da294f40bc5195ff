package main

import (
	"context"
	"encoding/json"
	"errors"
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

const (
	execV1      = "client.authentication.k8s.io/v1"
	execV1beta1 = "client.authentication.k8s.io/v1beta1"
)

// execCredential is what an exec plugin answers, in both versions.
type execCredential struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Spec       map[string]any `json:"spec"`
	Status     execStatus     `json:"status"`
}

type execStatus struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expirationTimestamp"`
}

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
		credential := execCredential{Kind: "ExecCredential", Spec: map[string]any{}}
		var err error
		if credential.APIVersion, err = execVersion(os.Getenv("KUBERNETES_EXEC_INFO")); err != nil {
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
		credential.Status = execStatus{token, expires.UTC().Truncate(time.Second)}
		return json.NewEncoder(cmd.OutOrStdout()).Encode(credential)
	}
	return cmd
}

// execVersion returns the version that the caller asks for in KUBERNETES_EXEC_INFO, v1 when
// there is no such caller.
func execVersion(info string) (string, error) {
	if info == "" {
		return execV1, nil
	}
	var asked struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal([]byte(info), &asked); err != nil {
		return "", errors.New("KUBERNETES_EXEC_INFO is not JSON")
	}
	if asked.APIVersion != execV1 && asked.APIVersion != execV1beta1 {
		return "", fmt.Errorf("KUBERNETES_EXEC_INFO asks for %q: want %s or %s", asked.APIVersion, execV1, execV1beta1)
	}
	return asked.APIVersion, nil
}
