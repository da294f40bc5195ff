// Package sigv4 verifies AWS Signature Version 4 the way AWS does, for services that
// answer AWS APIs themselves. It accepts signatures in the Authorization header and
// presigned URLs, and promises that what it accepted is exactly what was signed: method,
// path, query, every signed header and the body.
//
// It never signs; it rebuilds the request from its signed parts, has the AWS SDK sign
// that with the caller's secret, and compares.
package sigv4

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Windows in which AWS accepts a signature, counted from its date.
const (
	// HeaderWindow holds in both directions for a signature in the Authorization header
	// ("must reach AWS within five minutes of the timestamp").
	HeaderWindow = 5 * time.Minute
	// PresignedWindow is how long a presigned URL lasts whatever its X-Amz-Expires says:
	// STS ignores that parameter, and the EKS token, which carries 60 s and is used for
	// 14 minutes, relies on it.
	PresignedWindow = 15 * time.Minute
)

// defaultMaxBody bounds a request whose Verifier names no bound.
const defaultMaxBody = 1 << 20

// ErrUnknownKey is what Keys.Lookup answers for an access key that nobody holds.
var ErrUnknownKey = errors.New("unknown access key")

// Credential is an access key with its secret and the principal that it speaks for.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // set for temporary credentials; then a request must carry it
	ARN             string    // the caller, as GetCallerIdentity names it
	Expires         time.Time // zero: never
}

// Keys finds the credential of an access key ID; ErrUnknownKey when there is none.
type Keys interface {
	Lookup(ctx context.Context, accessKeyID string) (Credential, error)
}

// Error is a refusal, with the code that AWS's query services use. Its message is for the
// caller and tells nothing that helps to forge a signature.
type Error struct {
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes of Error.
const (
	CodeMissingToken = "MissingAuthenticationToken"
	CodeIncomplete   = "IncompleteSignature"
	CodeUnknownKey   = "InvalidClientTokenId"
	CodeMismatch     = "SignatureDoesNotMatch"
	CodeExpired      = "RequestExpired"
	CodeExpiredToken = "ExpiredToken"
	CodeTooLarge     = "RequestEntityTooLarge"
)

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Verifier checks requests to one service in one region.
type Verifier struct {
	Keys    Keys
	Region  string
	Service string           // the name in the credential scope: "eks", "sts", "ec2"
	Now     func() time.Time // nil: time.Now
	MaxBody int64            // bytes; zero: 1 MiB
}

// Verify returns the caller's credential when the request is signed by it. It reads the
// body, at most MaxBody bytes, and puts it back. A refusal is an *Error; any other error
// means that the request could not be judged.
func (v Verifier) Verify(r *http.Request) (Credential, error) {
	return v.verify(r, v.hashBody)
}

// UnsignedPayload is what a signature has in the place of the body's hash where a service
// takes bodies that are not signed.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// VerifyHashed is Verify for a body that the caller has read already: hash is its SHA-256
// in hex, or UnsignedPayload when the request says so and the service allows it.
func (v Verifier) VerifyHashed(r *http.Request, hash string) (Credential, error) {
	return v.verify(r, func(r *http.Request) (string, error) { return hash, checkDeclared(r, hash) })
}

func (v Verifier) verify(r *http.Request, payload func(*http.Request) (string, error)) (Credential, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Credential{}, refuse(CodeIncomplete, "the query string cannot be decoded")
	}
	claim, err := parseClaim(r, query)
	if err != nil {
		return Credential{}, err
	}
	if err := v.checkScope(claim); err != nil {
		return Credential{}, err
	}
	if err := v.checkDate(claim); err != nil {
		return Credential{}, err
	}
	if err := checkSignedHeaders(r, claim); err != nil {
		return Credential{}, err
	}
	credential, err := v.lookup(r.Context(), claim)
	if err != nil {
		return Credential{}, err
	}
	payloadHash, err := payload(r)
	if err != nil {
		return Credential{}, err
	}
	if err := compare(r, query, claim, credential, payloadHash); err != nil {
		return Credential{}, err
	}
	return credential, nil
}

func (v Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v Verifier) checkScope(c claim) error {
	switch {
	case c.scopeDate != c.date.Format("20060102"):
		return refuse(CodeMismatch, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	case c.region != v.Region:
		return refuse(CodeMismatch, "Credential should be scoped to a valid region, not '%s'.", c.region)
	case c.service != v.Service:
		return refuse(CodeMismatch, "Credential should be scoped to correct service: '%s'.", v.Service)
	case c.terminator != "aws4_request":
		return refuse(CodeMismatch, "Credential should be scoped with a valid terminator: 'aws4_request'.")
	}
	return nil
}

func (v Verifier) checkDate(c claim) error {
	now, past := v.now(), HeaderWindow
	if c.presigned {
		past = PresignedWindow
	}
	if now.Sub(c.date) > past {
		return refuse(CodeExpired, "Signature expired: %s is now earlier than %s (%s - %d min.)",
			c.date.Format(dateFormat), now.Add(-past).UTC().Format(dateFormat), now.UTC().Format(dateFormat), int(past.Minutes()))
	}
	if c.date.Sub(now) > HeaderWindow {
		return refuse(CodeExpired, "Signature not yet current: %s is still later than %s (%s + %d min.)",
			c.date.Format(dateFormat), now.Add(HeaderWindow).UTC().Format(dateFormat), now.UTC().Format(dateFormat), int(HeaderWindow.Minutes()))
	}
	return nil
}

func (v Verifier) lookup(ctx context.Context, c claim) (Credential, error) {
	credential, err := v.Keys.Lookup(ctx, c.accessKeyID)
	if errors.Is(err, ErrUnknownKey) {
		return Credential{}, refuse(CodeUnknownKey, "The security token included in the request is invalid.")
	}
	if err != nil {
		return Credential{}, fmt.Errorf("look up access key %q: %w", c.accessKeyID, err)
	}
	if credential.AccessKeyID != c.accessKeyID || credential.SecretAccessKey == "" || !equal(credential.SessionToken, c.sessionToken) {
		return Credential{}, refuse(CodeUnknownKey, "The security token included in the request is invalid.")
	}
	if !credential.Expires.IsZero() && !v.now().Before(credential.Expires) {
		return Credential{}, refuse(CodeExpiredToken, "The security token included in the request is expired")
	}
	return credential, nil
}
