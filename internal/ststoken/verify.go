package ststoken

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	callTimeout = 10 * time.Second
	maxAnswer   = 64 << 10 // bytes; a real answer is under 1 KiB
)

// ErrInvalid marks a token that is wrong, as opposed to one that could not be checked.
var ErrInvalid = errors.New("invalid token")

// ErrUnreachable marks that STS did not answer at all, which no token can be the cause of.
var ErrUnreachable = errors.New("no answer")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// parameters are all that a presigned GetCallerIdentity has; true marks the required.
// X-Amz-User-Agent is added by the AWS SDK for JavaScript.
var parameters = map[string]bool{
	"Action":               true,
	"Version":              true,
	"X-Amz-Algorithm":      true,
	"X-Amz-Credential":     true,
	"X-Amz-Date":           true,
	"X-Amz-Expires":        true,
	"X-Amz-Security-Token": false,
	"X-Amz-Signature":      true,
	"X-Amz-SignedHeaders":  true,
	"X-Amz-User-Agent":     false,
}

// Parse checks everything about a token that needs no network: that it is a presigned
// GetCallerIdentity to stsHost ("host" or "host:port"), bound to some cluster, signed
// within 15 minutes. The URL that it returns is written anew from the very values that
// were checked, so that what STS reads cannot differ from what was checked here (as it
// could in CVE-2022-2385). The identity and the signature are still unproven.
func Parse(token, stsHost string, now time.Time) (presigned *url.URL, err error) {
	if len(token) > maxToken {
		return nil, invalid("longer than %d bytes", maxToken)
	}
	encoded, ok := strings.CutPrefix(token, Prefix)
	if !ok {
		return nil, invalid("does not begin with %s", Prefix)
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, invalid("not unpadded base64url")
	}
	target, err := url.Parse(string(decoded))
	if err != nil {
		return nil, invalid("not a URL")
	}
	switch {
	case target.Scheme != "https":
		return nil, invalid("scheme is not https")
	case target.User != nil || target.Opaque != "" || strings.Contains(string(decoded), "#"):
		return nil, invalid("URL has more than host, path and query")
	case target.Host != stsHost:
		return nil, invalid("host is not %s", stsHost)
	case target.EscapedPath() != "/":
		return nil, invalid("path is not /")
	}
	query, err := url.ParseQuery(target.RawQuery)
	if err != nil {
		return nil, invalid("query string does not decode")
	}
	if err := checkQuery(query, now); err != nil {
		return nil, err
	}
	return &url.URL{
		Scheme: "https", Host: stsHost, Path: "/",
		// AWS reads a plus as itself.
		RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20"),
	}, nil
}

// checkQuery demands each required parameter once, in its own case, and no other.
func checkQuery(query url.Values, now time.Time) error {
	for name, values := range query {
		if _, known := parameters[name]; !known {
			return invalid("it has a query parameter that GetCallerIdentity does not")
		}
		if len(values) != 1 || values[0] == "" {
			return invalid("query parameter %s is not given exactly once", name)
		}
	}
	for name, required := range parameters {
		if required && !query.Has(name) {
			return invalid("query parameter %s is missing", name)
		}
	}
	if query.Get("Action") != "GetCallerIdentity" || query.Get("Version") != "2011-06-15" {
		return invalid("not a GetCallerIdentity of version 2011-06-15")
	}
	if query.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" {
		return invalid("X-Amz-Algorithm is not AWS4-HMAC-SHA256")
	}
	signed := strings.Split(query.Get("X-Amz-SignedHeaders"), ";")
	if !slices.Contains(signed, ClusterHeader) || !slices.Contains(signed, "host") {
		return invalid("host and %s are not both signed", ClusterHeader)
	}
	if seconds, err := strconv.Atoi(query.Get("X-Amz-Expires")); err != nil || seconds < 0 || seconds > int(lifetime.Seconds()) {
		return invalid("X-Amz-Expires is not between 0 and %d", int(lifetime.Seconds()))
	}
	date, err := time.Parse(dateFormat, query.Get("X-Amz-Date"))
	switch {
	case err != nil:
		return invalid("X-Amz-Date is not of the form %s", dateFormat)
	case now.Sub(date) > lifetime:
		return invalid("signed %s ago, more than %s", now.Sub(date).Truncate(time.Second), lifetime)
	case date.Sub(now) > skew:
		return invalid("signed %s in the future: compare the clocks", date.Sub(now).Truncate(time.Second))
	}
	return nil
}

// Identity is the caller, as STS names it.
type Identity struct {
	Account     string
	ARN         string
	UserID      string
	AccessKeyID string // that signed, as STS verified
}

// Verifier turns tokens into identities by asking STS.
type Verifier struct {
	HTTP *http.Client
	Host string           // of STS, "host" or "host:port"; tokens for another are refused
	Now  func() time.Time // nil: time.Now
}

// Check tells whether a token is worth asking STS about, which needs no network: Parse with
// this verifier's host and clock. It is true of no token that is older than 15 minutes. The
// ID is of the access key that the token claims to be signed with.
func (v Verifier) Check(token string) (accessKeyID string, err error) {
	presigned, err := Parse(token, v.Host, now(v.Now))
	if err != nil {
		return "", err
	}
	return accessKey(presigned), nil
}

func accessKey(presigned *url.URL) string {
	id, _, _ := strings.Cut(presigned.Query().Get("X-Amz-Credential"), "/")
	return id
}

// Verify returns who made the token, if it was made for cluster. An error that is
// ErrInvalid speaks about the token; any other means that STS could not be asked.
func (v Verifier) Verify(ctx context.Context, token, cluster string) (Identity, error) {
	if cluster == "" {
		return Identity{}, errors.New("verify token: no cluster named")
	}
	presigned, err := Parse(token, v.Host, now(v.Now))
	if err != nil {
		return Identity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, presigned.String(), nil)
	if err != nil {
		return Identity{}, invalid("not a request")
	}
	request.Header.Set(ClusterHeader, cluster)
	request.Header.Set("Accept", "application/json")

	client := *v.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return Identity{}, fmt.Errorf("ask STS at %s who signed a token: %w: %w", v.Host, ErrUnreachable, withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Identity{}, fmt.Errorf("read the answer of STS at %s: %w", v.Host, err)
	}
	identity, err := readAnswer(v.Host, response.StatusCode, body)
	if err == nil {
		identity.AccessKeyID = accessKey(presigned)
	}
	return identity, err
}

func readAnswer(host string, status int, body []byte) (Identity, error) {
	switch {
	case status == http.StatusTooManyRequests || status >= 500:
		return Identity{}, fmt.Errorf("STS at %s answered %d: try again", host, status)
	case status != http.StatusOK:
		return Identity{}, invalid("STS at %s refused it with %d: it may be for another cluster, or expired", host, status)
	case len(body) > maxAnswer:
		return Identity{}, fmt.Errorf("STS at %s answered with more than %d bytes", host, maxAnswer)
	}
	var answer struct {
		GetCallerIdentityResponse struct {
			GetCallerIdentityResult struct {
				Account string `json:"Account"`
				ARN     string `json:"Arn"`
				UserID  string `json:"UserId"`
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Identity{}, fmt.Errorf("decode the answer of STS at %s: %w", host, err)
	}
	result := answer.GetCallerIdentityResponse.GetCallerIdentityResult
	identity := Identity{Account: result.Account, ARN: result.ARN, UserID: result.UserID}
	if identity.Account == "" || identity.ARN == "" || identity.UserID == "" {
		return Identity{}, fmt.Errorf("STS at %s answered without an identity", host)
	}
	return identity, nil
}

// withoutURL takes the URL, which is the token, out of an HTTP client's error.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
