// Package s3 answers the part of Amazon S3 that backups and a person who looks after them
// need, on the wire, in path style. Objects are kept in files, whole or not at all, and are
// never held in memory. What it does not know it refuses by name: an operation, a parameter
// or a header that would have no effect is an error, not a silent success.
package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Service is S3. It implements wire.Streamer.
type Service struct {
	Plan    vpc.Plan
	Buckets *Store
	// Allowed tells whether the policies of the role that is the caller name an action; nil:
	// roles may do nothing. Policies of buckets are not looked at.
	Allowed func(caller, action string) bool
}

// Name implements wire.Service.
func (Service) Name() string { return "s3" }

// Knows implements wire.Service.
func (Service) Knows(string) bool { return false }

// Action implements wire.Protocol.
func (Service) Action(r *http.Request) string {
	o, err := route(r)
	if err != nil {
		return ""
	}
	return o.name
}

// UnsignedBody implements wire.Protocol: what need not be signed Payload tells.
func (Service) UnsignedBody(string) bool { return false }

// request is a call, taken apart.
type request struct {
	wire.Call
	target
	query url.Values
}

// answer is a response: headers and a value to encode as XML, or a part of a file.
type answer struct {
	status int // zero: 200
	header http.Header
	value  any
	file   *os.File
	first  int64 // byte of the part
	size   int64 // of the part
}

// Close releases the file.
func (a answer) Close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	o, err := route(call.Request)
	if err != nil {
		return nil, err
	}
	if err := o.knows(call.Request.Header); err != nil {
		return nil, err
	}
	q := request{call, targetOf(call.Request), call.Request.URL.Query()}
	if err := s.permit(q, o.permission); err != nil {
		return nil, err
	}
	if owner := q.Request.Header.Get("X-Amz-Expected-Bucket-Owner"); owner != "" && owner != s.Plan.Account {
		return nil, errDenied
	}
	if err := s.locate(q, o); err != nil {
		return nil, err
	}
	if !o.hasBody {
		text, _, err := document(call.Request)
		if err != nil {
			return nil, err
		}
		if len(text) > 0 {
			return nil, notImplemented("a body of %s", o.name)
		}
	}
	return o.do(s, q)
}

// permit refuses a role whose policies do not name the permission.
func (s Service) permit(q request, permission string) error {
	if !q.ByRole() || s.Allowed != nil && s.Allowed(q.Caller.ARN, permission) {
		return nil
	}
	resource := "*"
	if q.bucket != "" {
		resource = s.arn(strings.TrimSuffix(q.bucket+"/"+q.key, "/"))
	}
	return denied(q.Caller.ARN, permission, resource)
}

func (s Service) arn(resource string) string { return "arn:" + s.Plan.Partition + ":s3:::" + resource }

// locate asks that the request's bucket exist, and be in the region that was signed for.
func (s Service) locate(q request, o operation) error {
	if q.bucket == "" || o.name == createBucket {
		return nil
	}
	b, ok := s.Buckets.find(q.bucket)
	switch {
	case !ok && !validName(q.bucket):
		return invalidBucketName(q.bucket)
	case !ok:
		return noSuchBucket(q.bucket)
	case b.Region != q.Region && o.name != getBucketLocation:
		return wrongRegion(q.Region, b.Region)
	}
	return checkKey(q.key)
}

// owner is the account's canonical user ID, which is none of AWS's.
func (s Service) owner() string {
	sum := sha256.Sum256([]byte(s.Plan.Account))
	return hex.EncodeToString(sum[:])
}
