package s3

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// refusal is an error as S3 words it, with the elements that it adds for some.
type refusal struct {
	told    *wire.Error
	details []detail
}

// detail is an element of an error's answer.
type detail struct{ name, value string }

func (r *refusal) Error() string { return r.told.Error() }
func (r *refusal) Unwrap() error { return r.told }

func refuse(status int, code, message string, details ...detail) error {
	return &refusal{&wire.Error{Status: status, Code: code, Message: message}, details}
}

func badRequest(code, message string, details ...detail) error {
	return refuse(http.StatusBadRequest, code, message, details...)
}

func invalidRequest(format string, args ...any) error {
	return badRequest("InvalidRequest", fmt.Sprintf(format, args...))
}

func invalidArgument(name, value, message string) error {
	return badRequest("InvalidArgument", message, detail{"ArgumentName", name}, detail{"ArgumentValue", value})
}

// notImplemented names what the lab does not have.
func notImplemented(format string, args ...any) error {
	return refuse(http.StatusNotImplemented, "NotImplemented", "The lab's S3 does not have "+fmt.Sprintf(format, args...)+".")
}

func noSuchBucket(name string) error {
	return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist", detail{"BucketName", name})
}

func noSuchKey(key string) error {
	return refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.", detail{"Key", key})
}

func invalidBucketName(name string) error {
	return badRequest("InvalidBucketName", "The specified bucket is not valid.", detail{"BucketName", name})
}

func alreadyOwned(name string) error {
	return refuse(http.StatusConflict, "BucketAlreadyOwnedByYou",
		"Your previous request to create the named bucket succeeded and you already own it.", detail{"BucketName", name})
}

func notEmpty(name string) error {
	return refuse(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty", detail{"BucketName", name})
}

func denied(caller, permission, resource string) error {
	return refuse(http.StatusForbidden, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q because no identity-based policy allows the %s action",
		caller, permission, resource, permission))
}

func wrongRegion(given, want string) error {
	return badRequest("AuthorizationHeaderMalformed",
		fmt.Sprintf("The authorization header is malformed; the region '%s' is wrong; expecting '%s'", given, want), detail{"Region", want})
}

func tooLarge(size int64) error {
	return badRequest("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size",
		detail{"ProposedSize", strconv.FormatInt(size, 10)}, detail{"MaxSizeAllowed", strconv.FormatInt(maxObject, 10)})
}

var (
	errMissingLength = refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	errIncomplete    = badRequest("IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header.")
	errMalformedXML  = badRequest("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	errTrailer       = badRequest("MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	errThrottled     = refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	errDenied        = refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
	errExhausted     = badRequest("TooManyBuckets", "You have attempted to create more buckets than allowed")
	errInternal      = refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
)

// explain turns an error into what S3 would send.
func explain(err error) *refusal {
	var told *refusal
	var plain *wire.Error
	var signature *sigv4.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &plain):
		return &refusal{told: plain}
	case errors.As(err, &signature):
		err = ofSignature(signature)
	case errors.Is(err, wire.ErrThrottled):
		err = errThrottled
	case errors.Is(err, wire.ErrDenied):
		err = errDenied
	case errors.Is(err, wire.ErrExhausted):
		err = errExhausted
	default:
		err = errInternal
	}
	errors.As(err, &told)
	return told
}

// ofSignature is S3's refusal of a signature. Its codes are its own.
func ofSignature(e *sigv4.Error) error {
	switch e.Code {
	case sigv4.CodeMissingToken:
		return errDenied
	case sigv4.CodeUnknownKey:
		return refuse(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	case sigv4.CodeExpired:
		return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case sigv4.CodeExpiredToken:
		return badRequest("ExpiredToken", "The provided token has expired.")
	case sigv4.CodeIncomplete:
		return badRequest("AuthorizationHeaderMalformed", "The authorization header is malformed; "+e.Message)
	}
	return refuse(http.StatusForbidden, sigv4.CodeMismatch, e.Message)
}
