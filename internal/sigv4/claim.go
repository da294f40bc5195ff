package sigv4

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	dateFormat = "20060102T150405Z"
)

// claim is what a request says about its own signature, before any of it is believed.
type claim struct {
	presigned                              bool
	accessKeyID                            string
	scopeDate, region, service, terminator string
	date                                   time.Time
	signedHeaders                          []string // lower case, sorted, no repeats
	signature                              string
	sessionToken                           string
}

// parseClaim reads the signature from the Authorization header or from the query string.
// A request that carries both is refused: which one a reader believes must not matter.
func parseClaim(r *http.Request, query url.Values) (claim, error) {
	authorization, inHeader := r.Header["Authorization"]
	inQuery := query.Has("X-Amz-Algorithm") || query.Has("X-Amz-Signature") || query.Has("X-Amz-Credential")
	switch {
	case inHeader && inQuery:
		return claim{}, refuse(CodeIncomplete, "Only one of the Authorization header and the X-Amz-* query parameters is allowed")
	case inHeader && len(authorization) == 1:
		return headerClaim(r, authorization[0])
	case inHeader:
		return claim{}, refuse(CodeIncomplete, "More than one Authorization header")
	case inQuery:
		return queryClaim(query)
	}
	return claim{}, refuse(CodeMissingToken, "Missing Authentication Token")
}

func headerClaim(r *http.Request, authorization string) (claim, error) {
	rest, ok := strings.CutPrefix(authorization, algorithm+" ")
	if !ok {
		return claim{}, refuse(CodeIncomplete, "Authorization header requires the algorithm '%s'", algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := fields[name]; twice {
			return claim{}, refuse(CodeIncomplete, "Authorization header has '%s' more than once", name)
		}
		fields[name] = value
	}
	date, ok := single(r.Header["X-Amz-Date"])
	if !ok {
		return claim{}, refuse(CodeIncomplete, "Authorization header requires existence of one 'X-Amz-Date' header.")
	}
	token := r.Header["X-Amz-Security-Token"]
	if len(token) > 1 {
		return claim{}, refuse(CodeIncomplete, "More than one 'X-Amz-Security-Token' header.")
	}
	return newClaim(claim{sessionToken: strings.Join(token, "")}, date, fields["Credential"], fields["SignedHeaders"], fields["Signature"])
}

func queryClaim(query url.Values) (claim, error) {
	for name, values := range query {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") && len(values) > 1 {
			return claim{}, refuse(CodeIncomplete, "Query parameter '%s' is given more than once", name)
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm {
		return claim{}, refuse(CodeIncomplete, "AWS query-string parameters must include 'X-Amz-Algorithm' with the value '%s'", algorithm)
	}
	// Required and well-formed as AWS demands, although it shortens nothing (PresignedWindow).
	if expires := query.Get("X-Amz-Expires"); expires != "" {
		if n, err := strconv.Atoi(expires); err != nil || n < 0 || n > 7*24*60*60 {
			return claim{}, refuse(CodeIncomplete, "X-Amz-Expires should be a number of seconds, at most a week")
		}
	}
	return newClaim(claim{presigned: true, sessionToken: query.Get("X-Amz-Security-Token")},
		query.Get("X-Amz-Date"), query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature"))
}

var (
	headerName   = regexp.MustCompile(`^[a-z0-9!#$%&'*+.^_|~-]+$`)
	hexSignature = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// newClaim completes c with the fields that both forms share.
func newClaim(c claim, date, credential, signedHeaders, signature string) (claim, error) {
	var err error
	if c.date, err = time.Parse(dateFormat, date); err != nil {
		return claim{}, refuse(CodeIncomplete, "Date must be in ISO-8601 'basic format', as in %s", dateFormat)
	}
	// An access key ID holds no slash.
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[0] == "" {
		return claim{}, refuse(CodeIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term")
	}
	c.accessKeyID, c.scopeDate, c.region, c.service, c.terminator = scope[0], scope[1], scope[2], scope[3], scope[4]

	c.signedHeaders = strings.Split(signedHeaders, ";")
	for i, name := range c.signedHeaders {
		if !headerName.MatchString(name) || i > 0 && name <= c.signedHeaders[i-1] {
			return claim{}, refuse(CodeIncomplete, "SignedHeaders must be lower-case header names, sorted and separated by semicolons")
		}
	}
	if !hexSignature.MatchString(signature) {
		return claim{}, refuse(CodeIncomplete, "Signature must be 64 hexadecimal digits")
	}
	c.signature = signature
	return c, nil
}

// neverSigned are headers that every AWS SDK leaves out because proxies change them; the
// signer that compare uses leaves them out too.
var neverSigned = []string{"authorization", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"}

// checkSignedHeaders refuses a request whose host, or one of whose x-amz-* headers, could
// have been changed after signing.
func checkSignedHeaders(r *http.Request, c claim) error {
	signed := func(name string) bool { _, found := slices.BinarySearch(c.signedHeaders, name); return found }
	if !signed("host") {
		return refuse(CodeMismatch, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") && !signed(lower) {
			return refuse(CodeMismatch, "'%s' must be a 'SignedHeader' in the AWS Authorization.", lower)
		}
	}
	for _, name := range neverSigned {
		if signed(name) {
			return refuse(CodeMismatch, "'%s' must not be a 'SignedHeader': it changes on the way", name)
		}
	}
	return nil
}

func single(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}
