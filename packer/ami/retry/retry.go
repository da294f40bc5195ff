// Package retry is the one way in which calls to AWS are tried again. The SDK's own
// retries are off wherever it is used (SDKOff): two policies, one in the other, multiply.
package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Class is what an error means for another attempt.
type Class int

// The classes.
const (
	Permanent Class = iota // the answer will be the same
	Transient              // a fault on the way or at AWS
	Throttled              // too fast: the same call is good later
)

// Policy says how long and how often to try.
type Policy struct {
	Deadline time.Duration // of one attempt
	Attempts int           // that fail by a fault; throttled ones do not count
	Patience time.Duration // how long throttling is waited out
	Base     time.Duration // the first pause; it doubles, and a random part of it is waited
	Max      time.Duration // the longest pause
}

// Default is the policy of every call: the deadline and attempts are those with which
// public EBS direct uploaders get through.
var Default = Policy{Deadline: 20 * time.Second, Attempts: 5, Patience: 5 * time.Minute, Base: 100 * time.Millisecond, Max: 10 * time.Second}

// ErrUnsure says beside a refusal that an attempt before the one that was refused may have
// been carried out.
var ErrUnsure = errors.New("an attempt before may have been carried out")

// Call is one piece of work for Do.
type Call struct {
	// Try makes one attempt; its context ends with the attempt's deadline.
	Try func(ctx context.Context) error
	// Finish lets an attempt that has begun end by itself when Do's context does: what the
	// call makes would have to be looked for.
	Finish bool
	// Classify replaces the package's; nil uses it.
	Classify func(error) Class
	// Failed, if not nil, hears of each attempt that will be repeated.
	Failed func(error, Class)
}

// Do makes attempts until one succeeds, or the policy or ctx says to stop. The error is
// the last attempt's.
func (p Policy) Do(ctx context.Context, call Call) error {
	classify := call.Classify
	if classify == nil {
		classify = Classify
	}
	start, faults, pause := time.Now(), 0, p.Base
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		parent := ctx
		if call.Finish {
			parent = context.WithoutCancel(ctx)
		}
		attempt, cancel := context.WithTimeout(parent, p.Deadline)
		err := call.Try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		class := classify(err)
		switch class {
		case Permanent:
			if faults > 0 {
				return fmt.Errorf("%w (%w)", err, ErrUnsure)
			}
			return err
		case Transient:
			if faults++; faults >= p.Attempts {
				return fmt.Errorf("%d attempts failed, the last: %w", faults, err)
			}
		case Throttled:
			if waited := time.Since(start); waited > p.Patience {
				return fmt.Errorf("still refused after %s: %w", waited.Round(time.Second), err)
			}
		}
		if call.Failed != nil {
			call.Failed(err, class)
		}
		// Between half and all of the pause, so that callers that failed together part.
		if err := Sleep(ctx, pause/2+rand.N(pause/2+1)); err != nil {
			return err
		}
		pause = min(2*pause, p.Max)
	}
}

// Sleep waits, or returns the cause of ctx's end.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// throttling are the codes with which AWS services say: too fast.
var throttling = map[string]bool{
	"Throttling": true, "ThrottlingException": true, "ThrottledException": true, "RequestThrottled": true,
	"RequestThrottledException": true, "RequestLimitExceeded": true, "TooManyRequestsException": true,
	"ConcurrentLimitExceededException": true, "SlowDown": true, "TooManyUpdates": true,
}

// Classify sorts an error of an AWS call.
func Classify(err error) Class {
	var api smithy.APIError
	coded := errors.As(err, &api)
	if coded && throttling[api.ErrorCode()] {
		return Throttled
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		switch status := response.HTTPStatusCode(); {
		case status == http.StatusTooManyRequests:
			return Throttled
		case status >= 500:
			return Transient
		}
	}
	if coded {
		// EBS calls a block that arrives too slowly invalid.
		if strings.Contains(err.Error(), "WRITE_REQUEST_TIMEOUT") || api.ErrorCode() == "RequestTimeout" {
			return Transient
		}
		return Permanent
	}
	var sending *smithyhttp.RequestSendError
	if errors.As(err, &sending) || errors.Is(err, context.DeadlineExceeded) {
		return Transient
	}
	// An answer that was cut off in the middle.
	var decoding *smithy.DeserializationError
	if errors.As(err, &decoding) {
		return Transient
	}
	return Permanent
}

// Code is the AWS error code in err, or "".
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Denied tells whether AWS refused for want of permission.
func Denied(err error) bool {
	switch Code(err) {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Client.UnauthorizedOperation":
		return true
	}
	return false
}

// SDKOff is a retryer for SDK clients that never tries again.
func SDKOff() aws.Retryer { return aws.NopRetryer{} }
