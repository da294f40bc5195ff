package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/bearer"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// How a command proves to the service who calls.
const (
	authSignature = "sigv4"
	authBearer    = "bearer"
	authVariable  = "OVENBIRD_AUTH"
)

// auth is how commands prove who calls, and whom they trust to be the service.
type auth struct{ kind, accountID, caFile string }

type authKey struct{}

// authenticated gives cmd and the commands below it the flags of auth. They reach connect
// with the context, as the rest of the AWS environment reaches it without passing through
// every command.
func authenticated(cmd *cobra.Command) *cobra.Command {
	a := &auth{kind: os.Getenv(authVariable)}
	if a.kind == "" {
		a.kind = authSignature
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.kind, "auth", a.kind, "how to prove who calls: sigv4, which Amazon EKS and services that know the key take, or bearer, a token that AWS STS vouches for; $"+authVariable)
	a.addConnection(cmd)
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if a.kind != authSignature && a.kind != authBearer {
			return cli.Usage(fmt.Errorf("--auth %q: want %s or %s", a.kind, authSignature, authBearer))
		}
		cmd.SetContext(context.WithValue(cmd.Context(), authKey{}, a))
		return nil
	}
	return cmd
}

func (a *auth) addConnection(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.accountID, "account-id", "", "AWS account of the clusters, for bearer tokens (default: the caller's)")
	f.StringVar(&a.caFile, "ca-file", "", "certificates to trust for the service, PEM, beside those of the system; the rest of AWS goes by AWS_CA_BUNDLE")
}

// client makes a client of the EKS API.
func (a *auth) client(ctx context.Context, loaded aws.Config) (*eks.Client, error) {
	httpClient, err := a.httpClient(loaded)
	if err != nil {
		return nil, err
	}
	client := eks.NewFromConfig(loaded, func(o *eks.Options) { o.HTTPClient = httpClient })
	if a.kind != authBearer {
		return client, nil
	}
	endpoint := client.Options().BaseEndpoint
	if endpoint == nil {
		return nil, errors.New("no endpoint: Amazon EKS takes no bearer tokens: set AWS_ENDPOINT_URL_EKS to the Ovenbird service, or leave --auth away")
	}
	bearing, err := a.bearer(ctx, loaded, *endpoint)
	if err != nil {
		return nil, err
	}
	return eks.NewFromConfig(loaded, func(o *eks.Options) { o.HTTPClient = bearing }), nil
}

// bearer makes an HTTP client that sends tokens to endpoint.
func (a *auth) bearer(ctx context.Context, loaded aws.Config, endpoint string) (bearer.Client, error) {
	target, err := bearer.ParseEndpoint(endpoint)
	if err != nil {
		return bearer.Client{}, err
	}
	httpClient, err := a.httpClient(loaded)
	if err != nil {
		return bearer.Client{}, err
	}
	account := a.accountID
	if account == "" {
		if account, err = bearer.Account(ctx, loaded); err != nil {
			return bearer.Client{}, err
		}
	}
	return bearer.Client{Endpoint: target, Tokens: bearer.NewTokens(loaded, account, nil), Transport: httpClient.GetTransport()}, nil
}

// httpClient is the configured one, which trusts AWS_CA_BUNDLE, or one that trusts --ca-file.
func (a *auth) httpClient(loaded aws.Config) (*awshttp.BuildableClient, error) {
	if a.caFile == "" {
		if configured, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
			return configured, nil
		}
		return awshttp.NewBuildableClient(), nil
	}
	data, err := os.ReadFile(a.caFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("--ca-file %s: there is no certificate in it", a.caFile)
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}), nil
}
