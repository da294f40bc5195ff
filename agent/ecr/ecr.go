// Package ecr gets credentials for private registries of Amazon ECR, with the rights of
// the instance's role, and hands them to kubelet as an image credential provider does. It
// keeps nothing, and a password goes to its caller only.
package ecr

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// attempts and callTimeout end before kubelet's patience does, a minute
	// (pluginExecTimeout of its credential provider).
	attempts    = 4
	callTimeout = 10 * time.Second
	// firstWait is the longest wait before the second attempt. It doubles.
	firstWait = 500 * time.Millisecond
	// maxAnswer is far more than a token is long, about 3 KiB, in bytes.
	maxAnswer = 64 << 10

	operation = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
)

// Client asks the ECR API.
type Client struct {
	Credentials aws.CredentialsProvider
	Endpoint    string                                     // "https://host[:port]"; empty: that of the registry
	Transport   http.RoundTripper                          // trusts who should be trusted, and knows the proxy
	Random      func() float64                             // in [0, 1), for the wait before another attempt
	Wait        func(context.Context, time.Duration) error // nil: by the clock
}

// Login is who may pull from a registry.
type Login struct {
	Username, Password string
	Expires            time.Time // zero when ECR did not say
}

// Login asks for credentials of the registry, again when ECR is busy or out of reach.
func (c Client) Login(ctx context.Context, registry Registry) (Login, error) {
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "https://" + registry.api
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return Login{}, fmt.Errorf("ask ECR: the endpoint %q is not of the form https://host", endpoint)
	}
	for attempt := range attempts {
		if attempt > 0 {
			// Full jitter: a thousand nodes that were turned away come back apart.
			longest := float64(firstWait << (attempt - 1))
			if c.wait(ctx, time.Duration(c.Random()*longest)) != nil {
				break // err says more
			}
		}
		var login Login
		if login, err = c.ask(ctx, u, registry); err == nil {
			return login, nil
		}
		var refusal *refusal
		if errors.As(err, &refusal) && !refusal.passes() || ctx.Err() != nil {
			break
		}
	}
	return Login{}, fmt.Errorf("ask ECR at %s about registry %s: %w", u.Host, registry.Host, err)
}

func (c Client) wait(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// ask makes one call.
func (c Client) ask(ctx context.Context, endpoint *url.URL, registry Registry) (Login, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer in %s", callTimeout))
	defer cancel()
	body, err := json.Marshal(map[string][]string{"registryIds": {registry.ID}})
	if err != nil {
		return Login{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.JoinPath("/").String(), bytes.NewReader(body))
	if err != nil {
		return Login{}, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", operation)
	credentials, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		return Login{}, fmt.Errorf("get the credentials of the instance's role (has the instance a profile?): %w", err)
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), "ecr", registry.Region, time.Now()); err != nil {
		return Login{}, fmt.Errorf("sign the request: %w", err)
	}
	client := http.Client{
		Transport:     c.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return Login{}, brief(ctx, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Login{}, brief(ctx, err)
	}
	if len(answer) > maxAnswer {
		return Login{}, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return Login{}, refused(response.StatusCode, answer)
	}
	return loginOf(answer)
}

func brief(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

// loginOf reads an answer of GetAuthorizationToken. Its errors hold nothing of the token.
func loginOf(answer []byte) (Login, error) {
	var output struct {
		AuthorizationData []struct {
			AuthorizationToken string  `json:"authorizationToken"` // base64 of "user:password"
			ExpiresAt          float64 `json:"expiresAt"`          // seconds since 1970
		} `json:"authorizationData"`
	}
	if err := json.Unmarshal(answer, &output); err != nil {
		return Login{}, errors.New("the answer is not what GetAuthorizationToken gives")
	}
	if len(output.AuthorizationData) == 0 {
		return Login{}, errors.New("it answered without a token")
	}
	data := output.AuthorizationData[0]
	token, err := base64.StdEncoding.DecodeString(data.AuthorizationToken)
	username, password, found := strings.Cut(string(token), ":")
	if err != nil || !found || username == "" || password == "" {
		return Login{}, errors.New("its token is not the base64 of a user and a password")
	}
	login := Login{Username: username, Password: password}
	if data.ExpiresAt > 0 && data.ExpiresAt < math.MaxInt32*2 { // until 2106
		login.Expires = time.Unix(int64(data.ExpiresAt), 0)
	}
	return login, nil
}

// refusal is an answer that is an error.
type refusal struct {
	status        int
	code, message string
}

func refused(status int, answer []byte) error {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // "Message" in some, which encoding/json takes too
	}
	_ = json.Unmarshal(answer, &said) // a proxy in between says what it likes
	_, code, found := strings.Cut(said.Type, "#")
	if !found {
		code = said.Type
	}
	return &refusal{status, code, said.Message}
}

func (r *refusal) Error() string {
	said := strings.TrimSuffix(fmt.Sprintf("%d %s: %s", r.status, r.code, r.message), " : ")
	switch r.code {
	case "AccessDeniedException":
		return said + " (allow the instance's role ecr:GetAuthorizationToken; the managed policy AmazonEC2ContainerRegistryPullOnly does)"
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return said + " (compare the clock; the endpoint does not know the credentials of the instance's role)"
	}
	return said
}

// passes reports whether another attempt may fare better.
func (r *refusal) passes() bool {
	switch r.code {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "ServerException":
		return true
	}
	return r.status == http.StatusTooManyRequests || r.status >= 500
}
