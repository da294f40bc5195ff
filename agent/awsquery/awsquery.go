// Package awsquery calls actions of AWS services that speak the Query protocol and whose
// answers say nothing but yes or no. The services' own SDK packages would make the agent a
// good deal larger for three calls. It does not retry; the caller does, and reports it.
package awsquery

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// callTimeout bounds one call, which takes well under a second.
	callTimeout = 10 * time.Second
	// maxAnswer is far more than any answer that is read here is long, in bytes.
	maxAnswer = 64 << 10
)

// Service is one service of one region.
type Service struct {
	Name        string // as signatures have it: "autoscaling"
	Version     string // of its API: "2011-01-01"
	Region      string
	Endpoint    string // "https://host[:port]"
	Credentials aws.CredentialsProvider
	Client      *http.Client
	Now         func() time.Time
}

// Error is a refusal by the service.
type Error struct {
	Status  int    // of HTTP
	Code    string // "Throttling"
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// NewClient returns an HTTP client that trusts the authorities in trustedCAs (PEM) besides
// the system's. Proxy and wrap may be nil.
func NewClient(trustedCAs []byte, proxy func(*http.Request) (*url.URL, error), wrap func(http.RoundTripper) http.RoundTripper) *http.Client {
	trusted, err := x509.SystemCertPool()
	if err != nil {
		trusted = x509.NewCertPool() // then those given must do
	}
	trusted.AppendCertsFromPEM(trustedCAs)
	var transport http.RoundTripper = &http.Transport{
		Proxy:             proxy,
		TLSClientConfig:   &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true, // calls are minutes apart
	}
	if wrap != nil {
		transport = wrap(transport)
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Call makes one call of action. A refusal is an *Error.
func (s Service) Call(ctx context.Context, action string, parameters url.Values) error {
	if err := s.call(ctx, action, parameters); err != nil {
		return fmt.Errorf("call %s of %s: %w", action, s.Endpoint, err)
	}
	return nil
}

func (s Service) call(ctx context.Context, action string, parameters url.Values) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("no answer in %s", callTimeout))
	defer cancel()
	if u, err := url.Parse(s.Endpoint); err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("the endpoint is not of the form https://host")
	}
	form := url.Values{"Action": {action}, "Version": {s.Version}}
	for name, values := range parameters {
		form[name] = values
	}
	body := form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.Endpoint, "/")+"/", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("get the credentials of the instance's role: %w", err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), s.Name, s.Region, s.Now()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	response, err := s.Client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var failed *url.Error
		if errors.As(err, &failed) {
			return failed.Err
		}
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return nil
	}
	return &Error{Status: response.StatusCode, Code: element(string(answer), "Code"), Message: element(string(answer), "Message")}
}

// element returns the text of the first element name. An error has no attributes and
// nests nothing in these, so no XML parser is needed, which would be larger than this.
func element(answer, name string) string {
	_, rest, _ := strings.Cut(answer, "<"+name+">")
	text, _, ok := strings.Cut(rest, "</"+name+">")
	if !ok {
		return "(no " + name + ")"
	}
	return strings.Join(strings.Fields(text), " ")
}
