package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

const (
	// callTimeout bounds one DescribeCluster, which takes well under a second.
	callTimeout = 10 * time.Second
	// maxAnswer is far more than the description of any cluster is long, in bytes.
	maxAnswer = 256 << 10
)

// EKS is the EKS API as the node calls it.
type EKS struct {
	Region      string
	Endpoint    string // "https://host[:port]"; empty: that of the region
	Credentials aws.CredentialsProvider
	TrustedCAs  []byte                                // PEM; trusted besides the system's
	Proxy       func(*http.Request) (*url.URL, error) // nil: none
	// Wrap sees every call; nil: nobody does.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// ErrNoAnswer means that EKS has not answered in time.
var ErrNoAnswer = errors.New("no answer")

// Describe asks for the cluster name, in one call without a retry: the caller retries, and
// reports it. The answer is of a cluster that serves.
func (e EKS) Describe(ctx context.Context, name string) (nodeconfig.Cluster, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("%w in %s", ErrNoAnswer, callTimeout))
	defer cancel()
	client, err := e.client()
	if err != nil {
		return nodeconfig.Cluster{}, err
	}
	output, err := client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(name)})
	if err != nil {
		return nodeconfig.Cluster{}, fmt.Errorf("ask EKS about cluster %s: %w", name, explain(ctx, err, name))
	}
	return described(name, output.Cluster)
}

func (e EKS) client() (*eks.Client, error) {
	if e.Endpoint != "" {
		if u, err := url.Parse(e.Endpoint); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("ask EKS: the endpoint %q is not of the form https://host", e.Endpoint)
		}
	}
	// A copy of the system's own authorities.
	trusted, err := x509.SystemCertPool()
	if err != nil {
		trusted = x509.NewCertPool() // then those of user-data must do
	}
	trusted.AppendCertsFromPEM(e.TrustedCAs)
	var transport http.RoundTripper = bounded{&http.Transport{
		Proxy:             e.Proxy,
		TLSClientConfig:   &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true, // there is no second call
	}}
	if e.Wrap != nil {
		transport = e.Wrap(transport)
	}
	options := eks.Options{
		Region:      e.Region,
		Credentials: e.Credentials,
		Retryer:     aws.NopRetryer{},
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if e.Endpoint != "" {
		options.BaseEndpoint = aws.String(e.Endpoint)
	}
	return eks.New(options), nil
}

// described makes of an answer what a NodeConfig would have said.
func described(name string, cluster *types.Cluster) (nodeconfig.Cluster, error) {
	if cluster == nil {
		return nodeconfig.Cluster{}, fmt.Errorf("ask EKS about cluster %s: it answered without one", name)
	}
	if cluster.Status != types.ClusterStatusActive && cluster.Status != types.ClusterStatusUpdating {
		return nodeconfig.Cluster{}, fmt.Errorf("cluster %s is %s: a node can join once it is ACTIVE or UPDATING", name, cluster.Status)
	}
	result := nodeconfig.Cluster{Name: name, APIServerEndpoint: aws.ToString(cluster.Endpoint)}
	if cluster.CertificateAuthority != nil {
		result.CertificateAuthority = aws.ToString(cluster.CertificateAuthority.Data)
	}
	if network := cluster.KubernetesNetworkConfig; network != nil {
		result.CIDR = aws.ToString(network.ServiceIpv4Cidr)
		if network.IpFamily == types.IpFamilyIpv6 {
			result.CIDR = aws.ToString(network.ServiceIpv6Cidr)
		}
	}
	return result, nil
}

const inUserData = "spec.cluster's apiServerEndpoint, certificateAuthority and cidr into user-data, which spares the call"

// explain says what EKS said without the SDK's wrapping, and what to do about it.
func explain(ctx context.Context, err error, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errTooLong) {
		return errTooLong
	}
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	if errors.As(err, &api) && errors.As(err, &response) {
		status := response.HTTPStatusCode()
		said := refusal{api, status}
		switch {
		case status == http.StatusForbidden && api.ErrorCode() == "AccessDeniedException":
			return fmt.Errorf("%w (allow the instance's role eks:DescribeCluster, as docs/iam.md does, or put %s)", said, inUserData)
		case status == http.StatusForbidden:
			return fmt.Errorf("%w (compare the clock; an endpoint that does not know the instance's role cannot be asked: put %s)", said, inUserData)
		case status == http.StatusNotFound:
			return fmt.Errorf("%w (is there a cluster %s in this account and region?)", said, name)
		}
		return said
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return errors.New(strings.TrimPrefix(err.Error(), "operation error EKS: DescribeCluster, "))
}

// refusal is an answer of AWS's that says no, as a smithy.APIError with fewer words.
type refusal struct {
	smithy.APIError
	status int
}

func (r refusal) Error() string {
	return fmt.Sprintf("%d %s: %s", r.status, r.ErrorCode(), r.ErrorMessage())
}

var errTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

// bounded ends answers that are too long.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, maxAnswer}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
