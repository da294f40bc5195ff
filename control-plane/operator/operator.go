// Package operator holds the commands with which people run clusters from a shell. They
// are clients of the EKS API, found and signed for as the AWS SDKs do it (AWS_ENDPOINT_URL_EKS,
// AWS_REGION, the usual credentials), or with a bearer token of the same credentials, so they
// do nothing that an AWS client could not, with one exception: `ovenbird kubeconfig` signs
// with a cluster's own key, and so works only where the service keeps its state. Workers are
// in CloudFormation's hands.
package operator

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// Commands are all commands of the package.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		ClusterCommand(), AccessEntryCommand(), AccessPolicyCommand(), TagsCommand(), TagCommand(), UntagCommand(),
		KubeconfigCommand(), UpdateKubeconfigCommand(), GetTokenCommand(), UserDataCommand(), ProxyCommand(),
		WorkersCommand(),
	}
}

const orTheLab = `or load the lab's environment with eval "$(ovenbird-lab env)"`

// connect reads the AWS environment and makes a client of the EKS API, by the flags of
// authenticated. A region that is given wins over the environment's.
func connect(ctx context.Context, region ...string) (aws.Config, *eks.Client, error) {
	loaded, err := load(ctx, region...)
	if err != nil {
		return aws.Config{}, nil, err
	}
	a, ok := ctx.Value(authKey{}).(*auth)
	if !ok {
		a = &auth{kind: authSignature}
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := a.client(call, loaded)
	return loaded, client, err
}

// load reads the AWS environment; a region that is given wins over it.
func load(ctx context.Context, region ...string) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	for _, r := range region {
		options = append(options, config.WithRegion(r)) // an empty one counts for nothing
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return aws.Config{}, errors.New("no AWS region: set AWS_REGION, " + orTheLab)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := loaded.Credentials.Retrieve(call); err != nil {
		return aws.Config{}, errors.New("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, " + orTheLab)
	}
	return loaded, nil
}

// requireEndpoint keeps a command that makes or removes clusters from reaching Amazon EKS,
// where that costs money, by accident.
func requireEndpoint(client *eks.Client) error {
	if client.Options().BaseEndpoint == nil {
		return errors.New("no endpoint: set AWS_ENDPOINT_URL_EKS to the Ovenbird service, " + orTheLab)
	}
	return nil
}

// apiError puts what the API answered into one line, without the SDK's wrapping.
func apiError(doing string, err error) error {
	var answer smithy.APIError
	var canceled *smithy.CanceledError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.ErrorMessage() != "":
		return fmt.Errorf("%s: %s", doing, answer.ErrorMessage())
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted", doing)
	}
	// What is left is mostly the network: a name that does not resolve, a refused
	// connection, a certificate that is not trusted.
	return fmt.Errorf("%s: %w: is the service running, and is the AWS environment set?", doing, innermost(err))
}

// innermost unwraps the SDK's own wrappers, which name every layer on one long line.
func innermost(err error) error {
	var network *url.Error
	if errors.As(err, &network) {
		return network
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

func describe(ctx context.Context, client *eks.Client, name string) (*types.Cluster, error) {
	out, err := call(ctx, client.DescribeCluster, &eks.DescribeClusterInput{Name: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return out.Cluster, nil
}

// joinable is a cluster that tells where it is.
type joinable struct {
	name, endpoint string
	authority      string // base64 of PEM, as the API gives it
	serviceCIDR    string
}

func describeJoinable(ctx context.Context, client *eks.Client, name string) (joinable, error) {
	c, err := describe(ctx, client, name)
	if err != nil {
		return joinable{}, apiError("describe cluster "+name, err)
	}
	if c.Endpoint == nil || c.CertificateAuthority == nil || c.CertificateAuthority.Data == nil || c.KubernetesNetworkConfig == nil {
		return joinable{}, fmt.Errorf("cluster %s is %s and has no endpoint yet: wait with `ovenbird cluster wait %s`", name, c.Status, name)
	}
	return joinable{name, *c.Endpoint, *c.CertificateAuthority.Data, aws.ToString(c.KubernetesNetworkConfig.ServiceIpv4Cidr)}, nil
}

// oneCluster is the argument check of commands about one cluster. `cluster create` leaves
// the name to the API, which says more about it.
func oneCluster(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return fmt.Errorf("want the name of one cluster: %s", cmd.UseLine())
	}
	if !registry.ValidName(args[0]) {
		return fmt.Errorf("%.120q is not a cluster name: it begins with a letter or digit and holds only letters, digits, hyphens and underscores, at most 100", args[0])
	}
	return nil
}

// parsePairs reads arguments such as NAME=VALUE; form is how they look in an error.
func parsePairs(of, form string, pairs []string) (map[string]string, error) {
	parsed := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s %q: want %s", of, pair, form)
		}
		if _, twice := parsed[name]; twice {
			return nil, fmt.Errorf("%s: %s is given twice", of, name)
		}
		parsed[name] = value
	}
	return parsed, nil
}

// group is a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Usage(fmt.Errorf("unknown command %q for %q: see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath()))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}
