// Package awscall makes signed calls of AWS services, over HTTPS only. The services' own SDK
// packages would make the agent a good deal larger for a handful of calls. It does not retry;
// the caller does, and reports it.
package awscall

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
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
	// maxAnswer is far more than any answer that is read here is long, in bytes: a token of
	// ECR has about 3 KiB, a cluster's description about as much.
	maxAnswer = 256 << 10
)

var (
	// ErrNoAnswer means that the service has not answered in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrNoCredentials means that there was nothing to sign with.
	ErrNoCredentials = errors.New("get the credentials of the instance's role (has the instance a profile?)")
)

// Service is one service of one region.
type Service struct {
	Name        string // as signatures have it: "autoscaling"
	Region      string
	Endpoint    string // "https://host[:port]"
	Credentials aws.CredentialsProvider
	Client      *http.Client
	Now         func() time.Time
	// Token returns the bearer token that stands in for a signature; nil: requests are signed.
	Token func(context.Context) (string, error)
}

// Error is a refusal by the service.
type Error struct {
	Status  int    // of HTTP
	Code    string // "Throttling"; empty when somebody on the way answered
	Message string
}

func (e *Error) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", e.Status, cmp.Or(e.Code, http.StatusText(e.Status)), e.Message), ": ")
}

// NewClient returns an HTTP client that trusts the authorities in trustedCAs (PEM) besides
// the system's. Proxy and wrap may be nil.
func NewClient(trustedCAs []byte, proxy func(*http.Request) (*url.URL, error), wrap func(http.RoundTripper) http.RoundTripper) *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(trustedCAs) > 0 { // else the system's are read at the first call, if there is one: they take 3 MB
		trusted, err := x509.SystemCertPool()
		if err != nil {
			trusted = x509.NewCertPool() // then those given must do
		}
		trusted.AppendCertsFromPEM(trustedCAs)
		config.RootCAs = trusted
	}
	var transport http.RoundTripper = &http.Transport{
		Proxy:             proxy,
		TLSClientConfig:   config,
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

// Request is one call in the words of the service's protocol.
type Request struct {
	Method, Path string
	Header       map[string]string
	Body         string
}

// Call makes one call and returns the body of its answer. A refusal is an *Error. Other
// errors hold nothing of the answer, which may be a secret.
func (s Service) Call(ctx context.Context, r Request) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("%w in %s", ErrNoAnswer, callTimeout))
	defer cancel()
	response, err := s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", brief(ctx, err))
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case response.StatusCode != http.StatusOK:
		return nil, refusal(response, answer)
	}
	return answer, nil
}

func (s Service) send(ctx context.Context, r Request) (*http.Response, error) {
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil || endpoint.Scheme != "https" || endpoint.Host == "" {
		return nil, fmt.Errorf("the endpoint %q is not of the form https://host", s.Endpoint)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, endpoint.JoinPath(r.Path).String(), strings.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	if err := s.authorize(ctx, request, r.Body); err != nil {
		return nil, err
	}
	response, err := s.Client.Do(request)
	if err != nil {
		return nil, brief(ctx, err)
	}
	return response, nil
}

// authorize signs the request, or gives it the token.
func (s Service) authorize(ctx context.Context, request *http.Request, body string) error {
	if s.Token != nil {
		token, err := s.Token(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoCredentials, brief(ctx, err))
		}
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	credentials, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoCredentials, brief(ctx, err))
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), s.Name, s.Region, s.Now()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	return nil
}

// brief returns why ctx has ended, or err without the URL.
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

// refusal reads the errors of three protocols: REST JSON names the code in a header, JSON
// 1.1 in the body, and Query answers with XML. A proxy in between says what it likes.
func refusal(response *http.Response, answer []byte) *Error {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // "Message" in some, which encoding/json takes too
	}
	if json.Unmarshal(answer, &said) != nil {
		said.Type, said.Message = element(string(answer), "Code"), element(string(answer), "Message")
	}
	// "com.amazonaws.ecr#ServerException", "AccessDeniedException:http://..."
	code, _, _ := strings.Cut(cmp.Or(response.Header.Get("X-Amzn-ErrorType"), said.Type), ":")
	return &Error{
		Status:  response.StatusCode,
		Code:    code[strings.LastIndex(code, "#")+1:],
		Message: strings.Join(strings.Fields(said.Message), " "),
	}
}

// element returns the text of the first element name, or nothing. An error has no
// attributes and nests nothing in these, so no XML parser is needed, which would be larger
// than this.
func element(answer, name string) string {
	_, rest, _ := strings.Cut(answer, "<"+name+">")
	text, _, ok := strings.Cut(rest, "</"+name+">")
	if !ok {
		return ""
	}
	return text
}

// Query calls an action that says nothing but yes or no, of a service that speaks the Query
// protocol in version: "2011-01-01".
func (s Service) Query(ctx context.Context, version, action string, parameters url.Values) error {
	form := url.Values{"Action": {action}, "Version": {version}}
	for name, values := range parameters {
		form[name] = values
	}
	_, err := s.Call(ctx, Request{
		Method: http.MethodPost, Path: "/", Body: form.Encode(),
		Header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
	})
	if err != nil {
		return fmt.Errorf("call %s of %s: %w", action, s.Endpoint, err)
	}
	return nil
}
