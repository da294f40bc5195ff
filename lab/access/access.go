// Package access is how clients reach a lab that is up: the environment that AWS clients
// read, and a ready-made configuration for the SDK.
package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/state"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

const endpointURL = "https://" + vpc.EndpointName

// Inside is the environment of a command in the lab's namespace.
func Inside(dir state.Dir, lab state.Lab, plan vpc.Plan) (map[string]string, error) {
	keys, err := identity.ReadCredentials(dir.Credentials())
	if err != nil {
		return nil, err
	}
	var subnets []string
	for _, s := range plan.Subnets {
		subnets = append(subnets, s.ID)
	}
	env := map[string]string{
		"AWS_ENDPOINT_URL":      endpointURL,
		"AWS_ENDPOINT_URL_EKS":  "https://" + vpc.ControlPlaneName,
		"AWS_REGION":            plan.Region,
		"AWS_DEFAULT_REGION":    plan.Region,
		"AWS_CA_BUNDLE":         dir.CA(),
		"AWS_ACCESS_KEY_ID":     keys[0].AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": keys[0].SecretAccessKey,
		"OVENBIRD_SUBNETS":      strings.Join(subnets, ","),
	}
	if image, ok := lab.Newest(); ok {
		env["OVENBIRD_AMI"] = image.ID
	}
	return env, nil
}

// Unset are the variables that must not be inherited beside those of Inside and Outside:
// they would win over them, or lead the clients elsewhere.
func Unset() []string {
	return []string{
		"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_EC2",
		"AWS_ENDPOINT_URL_AUTO_SCALING", "AWS_ENDPOINT_URL_CLOUDFORMATION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
		"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy",
	}
}

// Outside is the environment of a command on the host: Inside's, and the proxy.
func Outside(dir state.Dir, lab state.Lab, plan vpc.Plan) (map[string]string, error) {
	env, err := Inside(dir, lab, plan)
	if err != nil {
		return nil, err
	}
	env["HTTPS_PROXY"] = proxyURL(lab).String()
	env["NO_PROXY"] = "localhost,127.0.0.1,::1"
	return env, nil
}

// Exports spells an environment for a shell to evaluate. What would win over it is unset.
func Exports(env map[string]string) string {
	var b strings.Builder
	unset := slices.DeleteFunc(Unset(), func(name string) bool { _, set := env[name]; return set })
	fmt.Fprintf(&b, "unset %s\n", strings.Join(unset, " "))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(env[name], "'", `'\''`))
	}
	return b.String()
}

func proxyURL(lab state.Lab) *url.URL {
	return &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", lab.ProxyPort)}
}

// Config makes a configuration with which SDK clients on the host reach the lab, as its
// administrator. It reads nothing of the caller's own AWS set-up.
func Config(dir state.Dir, lab state.Lab, plan vpc.Plan) (aws.Config, error) {
	keys, err := identity.ReadCredentials(dir.Credentials())
	if err != nil {
		return aws.Config{}, err
	}
	transport, err := Transport(dir, lab)
	if err != nil {
		return aws.Config{}, err
	}
	return aws.Config{
		Region:       plan.Region,
		BaseEndpoint: aws.String(endpointURL),
		Credentials:  credentials.NewStaticCredentialsProvider(keys[0].AccessKeyID, keys[0].SecretAccessKey, ""),
		HTTPClient:   &http.Client{Timeout: time.Minute, Transport: transport},
	}, nil
}

// Transport reaches the lab's endpoints from the host, and trusts them.
func Transport(dir state.Dir, lab state.Lab) (*http.Transport, error) {
	pem, err := os.ReadFile(dir.CA())
	if err != nil {
		return nil, fmt.Errorf("read the lab's certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the lab's certificate authority: no certificate in %s", dir.CA())
	}
	return &http.Transport{
		Proxy:             http.ProxyURL(proxyURL(lab)),
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}, nil
}

// Check asks the lab who the administrator is: one call through the proxy, TLS, the
// signature and back.
func Check(ctx context.Context, dir state.Dir, lab state.Lab, plan vpc.Plan) error {
	config, err := Config(dir, lab, plan)
	if err != nil {
		return err
	}
	config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	got, err := sts.NewFromConfig(config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return fmt.Errorf("ask the lab's endpoint who calls: %w", err)
	}
	if aws.ToString(got.Account) != plan.Account {
		return fmt.Errorf("ask the lab's endpoint who calls: it says account %s", aws.ToString(got.Account))
	}
	return nil
}
