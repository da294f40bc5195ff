// Package bearer is the client's side of a bearer token at the EKS API of Ovenbird: it makes
// the token from the caller's AWS credentials, and sends it in the place of a signature that
// only somebody with the caller's secret could verify.
//
// The token goes over TLS to the service's own host and nowhere else, and is never logged.
// It is made anew before it ends.
package bearer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// ParseEndpoint reads the address of a service that may be sent tokens.
func ParseEndpoint(endpoint string) (*url.URL, error) {
	target, err := url.Parse(endpoint)
	if err != nil || target.Scheme != "https" || target.Host == "" || target.User != nil || target.Path != "" && target.Path != "/" || target.RawQuery != "" || target.Fragment != "" {
		return nil, fmt.Errorf("the endpoint %q: want https://host or https://host:port, as a token must not be sent in the clear", endpoint)
	}
	return target, nil
}

// Account returns the account of the configured credentials, which it asks STS for unless
// they tell it themselves.
func Account(ctx context.Context, config aws.Config) (string, error) {
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("get AWS credentials: %w", err)
	}
	if credentials.AccountID != "" {
		return credentials.AccountID, nil
	}
	caller, err := sts.NewFromConfig(config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err == nil && aws.ToString(caller.Account) == "" {
		err = errors.New("it answered without one")
	}
	if err != nil {
		return "", fmt.Errorf("ask STS for the account, for want of --account-id: %w", err)
	}
	return *caller.Account, nil
}

// Tokens makes tokens for the EKS API of one region and account. It is safe for concurrent use.
type Tokens struct {
	signer   ststoken.Signer
	audience string

	mu      sync.Mutex
	token   string
	expires time.Time
}

// NewTokens makes tokens from the configured credentials, for the configured STS. A nil
// clock is time.Now.
func NewTokens(config aws.Config, accountID string, now func() time.Time) *Tokens {
	if now == nil {
		now = time.Now
	}
	signer := ststoken.Signer{Credentials: config.Credentials, Region: config.Region, Now: now}
	if endpoint := sts.NewFromConfig(config).Options().BaseEndpoint; endpoint != nil {
		signer.Endpoint = *endpoint
	}
	return &Tokens{signer: signer, audience: ststoken.APIAudience(config.Region, accountID)}
}

// Token returns a token that is good for a minute at least.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signer.Now().Before(t.expires) {
		return t.token, nil
	}
	token, expires, err := t.signer.Token(ctx, t.audience)
	if err != nil {
		return "", err
	}
	t.token, t.expires = token, expires
	return token, nil
}

// Client sends requests to the service at Endpoint with a token in the place of their
// signature. SDK clients take it as their HTTP client.
type Client struct {
	Endpoint *url.URL // of ParseEndpoint
	Tokens   *Tokens
	// Transport and no HTTP client, which would follow a redirect with the token.
	Transport http.RoundTripper
}

// errElsewhere keeps a token from everybody but the service.
var errElsewhere = errors.New("the request is for another host than the service: no token is sent there")

// signatureHeaders are what SigV4 adds, none of which is the service's to see.
var signatureHeaders = []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256"}

// Do implements aws.HTTPClient.
func (c Client) Do(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Host != c.Endpoint.Host || r.Host != "" && r.Host != c.Endpoint.Host {
		return nil, errElsewhere
	}
	token, err := c.Tokens.Token(r.Context())
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.RequestURI = "" // set when it came in through a server
	for _, name := range signatureHeaders {
		r.Header.Del(name)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return c.Transport.RoundTrip(r)
}

// RoundTrip implements http.RoundTripper.
func (c Client) RoundTrip(r *http.Request) (*http.Response, error) { return c.Do(r) }
