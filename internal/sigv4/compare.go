package sigv4

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// hashBody reads the body, puts it back and returns its SHA-256 in hex.
func (v Verifier) hashBody(r *http.Request) (string, error) {
	limit := v.MaxBody
	if limit == 0 {
		limit = defaultMaxBody
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, limit+1)); err != nil {
			return "", fmt.Errorf("read request body: %w", err)
		}
		if int64(len(body)) > limit {
			return "", refuse(CodeTooLarge, "Request body is larger than %d bytes", limit)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	return hash, checkDeclared(r, hash)
}

// checkDeclared refuses a body other than the one that X-Amz-Content-Sha256 speaks of.
func checkDeclared(r *http.Request, hash string) error {
	if declared, present := r.Header["X-Amz-Content-Sha256"]; present && (len(declared) != 1 || declared[0] != hash) {
		return refuse(CodeMismatch, "The value of 'x-amz-content-sha256' is not the SHA-256 of the request body")
	}
	return nil
}

// compare signs what the caller says it signed and checks that the same signature results.
func compare(r *http.Request, query url.Values, c claim, credential Credential, payloadHash string) error {
	signed := c.rebuild(r, query)
	keys := aws.Credentials{
		AccessKeyID:     credential.AccessKeyID,
		SecretAccessKey: credential.SecretAccessKey,
		SessionToken:    credential.SessionToken,
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) {
		// Headers are signed where they were sent; none moves into the query.
		o.DisableHeaderHoisting = true
		// Every service but S3 has the path, escaped as it was sent, escaped once more.
		o.DisableURIPathEscaping = c.service == "s3"
	})

	var signature string
	if c.presigned {
		presigned, _, err := signer.PresignHTTP(r.Context(), keys, signed, payloadHash, c.service, c.region, c.date)
		if err != nil {
			return fmt.Errorf("compute signature: %w", err)
		}
		_, signature, _ = strings.Cut(presigned, "&X-Amz-Signature=")
	} else {
		if err := signer.SignHTTP(r.Context(), keys, signed, payloadHash, c.service, c.region, c.date); err != nil {
			return fmt.Errorf("compute signature: %w", err)
		}
		_, signature, _ = strings.Cut(signed.Header.Get("Authorization"), "Signature=")
	}
	if !equal(signature, c.signature) {
		return refuse(CodeMismatch, "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

// rebuild returns the request as the caller saw it when signing: only signed headers, and
// no signature. The URL has no scheme, so that the signer takes the host exactly as sent.
func (c claim) rebuild(r *http.Request, query url.Values) *http.Request {
	unsigned := url.Values{}
	for name, values := range query {
		if c.presigned && name == "X-Amz-Signature" {
			continue
		}
		unsigned[name] = values
	}
	signed := (&http.Request{
		Method: r.Method,
		URL:    &url.URL{Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: unsigned.Encode()},
		Host:   r.Host,
		Header: http.Header{},
	}).WithContext(r.Context())
	for _, name := range c.signedHeaders {
		switch key := textproto.CanonicalMIMEHeaderKey(name); name {
		case "host":
		case "content-length":
			signed.ContentLength = r.ContentLength
		default:
			if values, present := r.Header[key]; present {
				signed.Header[key] = append([]string(nil), values...)
			}
		}
	}
	return signed
}

// equal compares in time that does not depend on where a and b differ.
func equal(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
