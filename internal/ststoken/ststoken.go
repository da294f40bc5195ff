// Package ststoken makes and verifies the bearer token that Amazon EKS uses: a presigned
// STS GetCallerIdentity URL, bound to one cluster by a signed header. Whoever holds AWS
// credentials proves it without showing them, and the verifier learns the caller's name
// from STS alone, never from the token.
//
// The same token, made for APIAudience instead of a cluster, proves its signer to the EKS
// API of Ovenbird.
//
// A token is good for 15 minutes and for one cluster or API. Tokens are secrets: nothing here
// logs one or puts one, or a part of one, into an error.
package ststoken

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ovenbird-dev/ovenbird/internal/partition"
)

const (
	// Prefix begins every token.
	Prefix = "k8s-aws-v1."
	// ClusterHeader is the signed header that names the cluster a token is for.
	ClusterHeader = "x-k8s-aws-id"

	// apiAudience begins what ClusterHeader names in a token for the EKS API itself. No
	// cluster's name holds a slash, so such a token is good at no cluster.
	apiAudience = "ovenbird-api/"

	// maxToken is the longest token a verifier reads, as in aws-iam-authenticator.
	maxToken = 4096
	// lifetime is how long STS accepts a presigned GetCallerIdentity, whatever its
	// X-Amz-Expires says.
	lifetime = 15 * time.Minute
	// early is how long before its end a signer stops offering a token.
	early = time.Minute
	// skew is how far ahead of ours STS lets a signer's clock be.
	skew = 5 * time.Minute

	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	dateFormat  = "20060102T150405Z"
)

// APIAudience is what takes the place of the cluster's name in a token for the EKS API of
// one region and account.
func APIAudience(region, accountID string) string {
	return apiAudience + region + "/" + accountID
}

// Host is where STS is in a region, unless an endpoint says otherwise.
func Host(region string) string {
	return "sts." + region + "." + partition.Of(region).DNSSuffix
}

// Signer makes tokens.
type Signer struct {
	Credentials aws.CredentialsProvider
	Region      string
	Endpoint    string           // "https://host[:port]/"; empty: Host(Region)
	Now         func() time.Time // nil: time.Now
}

// Token returns a token for cluster and when to stop using it, which is a minute before
// it, or the credentials behind it, really end. It makes no call but for the credentials.
func (s Signer) Token(ctx context.Context, cluster string) (token string, expires time.Time, err error) {
	endpoint := s.Endpoint
	if endpoint == "" {
		endpoint = "https://" + Host(s.Region) + "/"
	}
	target, err := url.Parse(endpoint)
	if err != nil || target.Scheme != "https" || target.Host == "" || strings.Trim(target.Path, "/") != "" || target.RawQuery != "" {
		return "", time.Time{}, fmt.Errorf("sign token for cluster %s: the STS endpoint %q is not of the form https://host/", cluster, endpoint)
	}
	target.Path = "/"
	target.RawQuery = url.Values{
		"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}, "X-Amz-Expires": {"60"},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token for cluster %s: %w", cluster, err)
	}
	request.Header.Set(ClusterHeader, cluster)

	credentials, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("get AWS credentials to sign a token for cluster %s: %w", cluster, err)
	}
	signedAt := now(s.Now)
	presigned, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, emptySHA256, "sts", s.Region, signedAt)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token for cluster %s: %w", cluster, err)
	}
	expires = signedAt.Add(lifetime - early)
	if credentials.CanExpire && credentials.Expires.Before(expires) {
		expires = credentials.Expires
	}
	return Prefix + base64.RawURLEncoding.EncodeToString([]byte(presigned)), expires, nil
}

// assumedRole is the ARN of a role's session, with the characters that IAM and STS allow.
var assumedRole = regexp.MustCompile(`^arn:(aws[a-z-]*):sts::(\d+):assumed-role/([\w+=,.@-]+)/([\w+=,.@-]+)$`)

// RoleSession splits the ARN of an assumed role, as STS gives it, into the role's IAM ARN
// (without its path, which STS does not tell) and the session name. On EC2 the session
// name is the instance ID.
func RoleSession(arn string) (roleARN, sessionName string, ok bool) {
	part := assumedRole.FindStringSubmatch(arn)
	if part == nil {
		return "", "", false
	}
	return fmt.Sprintf("arn:%s:iam::%s:role/%s", part[1], part[2], part[3]), part[4], true
}

func now(clock func() time.Time) time.Time {
	if clock != nil {
		return clock()
	}
	return time.Now()
}
