// Package imds reads the instance metadata service, version 2 only: who the instance is,
// its user-data and its role's credentials. It does not retry; the caller does, and
// reports it. Nothing that it reads is logged.
package imds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	sdk "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxAnswer is more than any answer of the service is long; user-data ends at 16 KiB.
const maxAnswer = 64 << 10

// Instance is who the instance is.
type Instance struct {
	ID               string     `json:"instanceId"`
	AccountID        string     `json:"accountId,omitempty"`
	Type             string     `json:"instanceType"`
	Region           string     `json:"region"`
	AvailabilityZone string     `json:"availabilityZone"`
	PrivateDNSName   string     `json:"privateDnsName"`
	PrivateIPv4      netip.Addr `json:"privateIpv4,omitzero"`
	IPv6             netip.Addr `json:"ipv6,omitzero"` // invalid when it has none, or none was asked for
	MAC              string     `json:"mac,omitempty"` // of its primary network interface
}

// ProviderID is what Kubernetes calls the instance.
func (i Instance) ProviderID() string {
	return "aws:///" + i.AvailabilityZone + "/" + i.ID
}

// Client talks to the service, with one token for as long as that is good.
type Client struct {
	options sdk.Options

	mu      sync.Mutex
	session *sdk.Client // nil before the first call, and after one that failed
}

// New returns a client of the service at endpoint; when that is empty, of
// AWS_EC2_METADATA_SERVICE_ENDPOINT or else http://169.254.169.254. Every request goes
// through wrap, unless that is nil.
func New(endpoint string, wrap func(http.RoundTripper) http.RoundTripper) *Client {
	if wrap == nil {
		wrap = func(next http.RoundTripper) http.RoundTripper { return next }
	}
	return &Client{options: sdk.Options{
		Endpoint:       endpoint,
		EnableFallback: aws.FalseTernary, // never version 1
		Retryer:        aws.NopRetryer{},
		HTTPClient: &http.Client{Transport: wrap(&http.Transport{
			// Proxy stays nil: the service must never be reached through one. The SDK's
			// own deadlines are too short for a slow machine that is just starting.
			DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			ResponseHeaderTimeout: 5 * time.Second,
			MaxIdleConns:          4,
			IdleConnTimeout:       30 * time.Second,
		})},
		DisableDefaultTimeout: true,
	}}
}

// ask asks in the client's session. After a failure the next call begins with a fresh token:
// the SDK keeps one that the service refuses for as long as it thinks that it is good.
func (c *Client) ask(question func(session *sdk.Client) error) error {
	c.mu.Lock()
	if c.session == nil {
		c.session = sdk.New(c.options)
	}
	session := c.session
	c.mu.Unlock()
	err := question(session)
	if err != nil && !isNotFound(err) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.session == session {
			c.session = nil
		}
	}
	return err
}

// GetMetadata is the SDK's call, for those of its parts that take one.
func (c *Client) GetMetadata(ctx context.Context, input *sdk.GetMetadataInput, options ...func(*sdk.Options)) (output *sdk.GetMetadataOutput, err error) {
	err = c.ask(func(session *sdk.Client) error {
		output, err = session.GetMetadata(ctx, input, options...)
		return err
	})
	return output, err
}

// Instance returns who the instance is, without its IPv6 address.
func (c *Client) Instance(ctx context.Context) (Instance, error) {
	var document *sdk.GetInstanceIdentityDocumentOutput
	if err := c.ask(func(session *sdk.Client) (err error) {
		document, err = session.GetInstanceIdentityDocument(ctx, nil)
		return err
	}); err != nil {
		return Instance{}, fmt.Errorf("read the identity document from instance metadata: %w", brief(err))
	}
	instance := Instance{
		ID:               document.InstanceID,
		AccountID:        document.AccountID,
		Type:             document.InstanceType,
		Region:           document.Region,
		AvailabilityZone: document.AvailabilityZone,
	}
	names, err := c.get(ctx, "local-hostname")
	if err != nil {
		return Instance{}, err
	}
	// A DHCP options set with several domains gives several names; EC2's is the first.
	if fields := strings.Fields(names); len(fields) > 0 {
		instance.PrivateDNSName = fields[0]
	}
	if instance.PrivateIPv4, err = netip.ParseAddr(document.PrivateIP); err != nil {
		return Instance{}, fmt.Errorf("instance metadata: privateIp: %w", err)
	}
	if instance.MAC, err = c.get(ctx, "mac"); err != nil && !errors.Is(err, errNotThere) {
		return Instance{}, err
	}
	return instance, instance.Complete()
}

// IPv6 returns the instance's IPv6 address, an invalid one when it has none.
func (c *Client) IPv6(ctx context.Context) (netip.Addr, error) {
	text, err := c.get(ctx, "ipv6")
	if errors.Is(err, errNotThere) {
		return netip.Addr{}, nil
	}
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("instance metadata: ipv6: %w", err)
	}
	if err := checkIPv6(address); err != nil {
		return netip.Addr{}, err
	}
	return address, nil
}

// checkIPv6 says what is wrong with an IPv6 address.
func checkIPv6(address netip.Addr) error {
	if !address.Is6() || address.Zone() != "" {
		return fmt.Errorf("instance metadata: ipv6 is %q, which is not an IPv6 address without a zone", address)
	}
	return nil
}

// Complete says what is missing or wrong to make a node of the instance: its facts stand in
// kubelet's flags and in names.
func (i Instance) Complete() error {
	for _, required := range []struct{ name, value string }{
		{"instanceId", i.ID}, {"instanceType", i.Type}, {"region", i.Region},
		{"availabilityZone", i.AvailabilityZone}, {"privateDnsName", i.PrivateDNSName},
	} {
		if required.value == "" {
			return fmt.Errorf("instance metadata: %s is missing", required.name)
		}
		if strings.ContainsFunc(required.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("instance metadata: %s is %q, which is not one word of ASCII", required.name, required.value)
		}
	}
	switch {
	case !i.PrivateIPv4.IsValid():
		return errors.New("instance metadata: privateIpv4 is missing")
	case !i.PrivateIPv4.Is4():
		return fmt.Errorf("instance metadata: privateIpv4 is %q, which is not an IPv4 address", i.PrivateIPv4)
	case i.IPv6.IsValid():
		return checkIPv6(i.IPv6)
	}
	return nil
}

// UserData returns the instance's user-data, nil when it has none.
func (c *Client) UserData(ctx context.Context) ([]byte, error) {
	var output *sdk.GetUserDataOutput
	err := c.ask(func(session *sdk.Client) (err error) {
		output, err = session.GetUserData(ctx, nil)
		return err
	})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read user-data from instance metadata: %w", brief(err))
	}
	return read("user-data", output.Content)
}

// Tag returns the value of the instance's tag key, "" when there is none or the instance
// does not show its tags in its metadata.
func (c *Client) Tag(ctx context.Context, key string) (string, error) {
	value, err := c.get(ctx, "tags/instance/"+key)
	if errors.Is(err, errNotThere) {
		return "", nil
	}
	return value, err
}

// Tags returns those of the instance's tags whose keys are wanted, none when the instance does
// not show its tags in its metadata. It reads the list of keys, and each wanted value.
func (c *Client) Tags(ctx context.Context, wanted func(key string) bool) (map[string]string, error) {
	keys, err := c.get(ctx, "tags/instance")
	if errors.Is(err, errNotThere) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, key := range strings.Split(keys, "\n") {
		if key = strings.TrimSpace(key); !wanted(key) {
			continue
		}
		value, err := c.get(ctx, "tags/instance/"+key)
		if errors.Is(err, errNotThere) {
			continue // taken away meanwhile
		}
		if err != nil {
			return nil, err
		}
		tags[key] = value
	}
	return tags, nil
}

// Credentials returns the credentials of the instance's role, fetched anew when they
// are about to expire.
func (c *Client) Credentials() aws.CredentialsProvider {
	return aws.NewCredentialsCache(roleKeys{ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = c })})
}

// roleKeys is the SDK's provider with errors of one line: it quotes the service.
type roleKeys struct{ *ec2rolecreds.Provider }

func (k roleKeys) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := k.Provider.Retrieve(ctx)
	if err != nil {
		err = inOneLine(err.Error(), err)
	}
	return keys, err
}

var errNotThere = errors.New("not there")

func (c *Client) get(ctx context.Context, path string) (string, error) {
	output, err := c.GetMetadata(ctx, &sdk.GetMetadataInput{Path: path})
	if isNotFound(err) {
		return "", fmt.Errorf("instance metadata %s: %w", path, errNotThere)
	}
	if err != nil {
		return "", fmt.Errorf("read %s from instance metadata: %w", path, brief(err))
	}
	data, err := read(path, output.Content)
	return strings.TrimSpace(string(data)), err
}

func read(path string, content io.ReadCloser) ([]byte, error) {
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read %s from instance metadata: %w", path, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("read %s from instance metadata: longer than %d bytes", path, maxAnswer)
	}
	return data, nil
}

func isNotFound(err error) bool {
	var response *smithyhttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound
}

// brief drops the SDK's wrapping, which names its operations over again.
func brief(err error) error {
	text := err.Error()
	const operation = "operation error ec2imds: "
	if i := strings.LastIndex(text, operation); i >= 0 {
		_, text, _ = strings.Cut(text[i+len(operation):], ", ")
	}
	return inOneLine(strings.TrimSuffix(text, ", request to EC2 IMDS failed"), err)
}

// inOneLine returns err with text, made one line, in place of its own.
func inOneLine(text string, err error) error {
	return lineError{text: strings.Join(strings.Fields(text), " "), err: err}
}

type lineError struct {
	text string
	err  error
}

func (e lineError) Error() string { return e.text }
func (e lineError) Unwrap() error { return e.err }
