// Package ecr gets credentials for private registries of Amazon ECR, with the rights of
// the instance's role, and hands them to kubelet as an image credential provider does. It
// keeps nothing, and a password goes to its caller only.
package ecr

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ovenbird-dev/ovenbird/agent/awscall"
)

const (
	// attempts end before kubelet's patience does, a minute (pluginExecTimeout of its
	// credential provider): a call ends after 10 seconds.
	attempts = 4
	// firstWait is the longest wait before the second attempt. It doubles.
	firstWait = 500 * time.Millisecond

	operation = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
)

// Client asks the ECR API.
type Client struct {
	Credentials aws.CredentialsProvider
	Endpoint    string                                     // "https://host[:port]"; empty: that of the registry
	HTTP        *http.Client                               // trusts who should be trusted, and knows the proxy
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
	service := awscall.Service{
		Name: "ecr", Region: registry.Region, Endpoint: cmp.Or(c.Endpoint, "https://"+registry.api),
		Credentials: c.Credentials, Client: c.HTTP, Now: time.Now,
	}
	var err error
	for attempt := range attempts {
		if attempt > 0 {
			// Full jitter: a thousand nodes that were turned away come back apart.
			longest := float64(firstWait << (attempt - 1))
			if c.wait(ctx, time.Duration(c.Random()*longest)) != nil {
				break // err says more
			}
		}
		var login Login
		if login, err = ask(ctx, service, registry); err == nil {
			return login, nil
		}
		var refused *awscall.Error
		if errors.As(err, &refused) && !passes(refused) || ctx.Err() != nil {
			break
		}
	}
	return Login{}, fmt.Errorf("ask ECR at %s about registry %s: %w", service.Endpoint, registry.Host, explain(err))
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
func ask(ctx context.Context, service awscall.Service, registry Registry) (Login, error) {
	body, err := json.Marshal(map[string][]string{"registryIds": {registry.ID}})
	if err != nil {
		return Login{}, err
	}
	answer, err := service.Call(ctx, awscall.Request{
		Method: http.MethodPost, Path: "/", Body: string(body),
		Header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": operation},
	})
	if err != nil {
		return Login{}, err
	}
	return loginOf(answer)
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

// explain adds to a refusal what to do about it.
func explain(err error) error {
	var refused *awscall.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case "AccessDeniedException":
		return fmt.Errorf("%w (allow the instance's role ecr:GetAuthorizationToken; the managed policy AmazonEC2ContainerRegistryPullOnly does)", err)
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return fmt.Errorf("%w (compare the clock; the endpoint does not know the credentials of the instance's role)", err)
	}
	return err
}

// passes reports whether another attempt may fare better.
func passes(refused *awscall.Error) bool {
	switch refused.Code {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "ServerException":
		return true
	}
	return refused.Status == http.StatusTooManyRequests || refused.Status >= 500
}
