package retry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

var quick = Policy{Deadline: time.Minute, Attempts: 3, Patience: time.Minute, Base: time.Microsecond, Max: time.Microsecond}

func coded(code string) error { return &smithy.GenericAPIError{Code: code} }

func status(code int, err error) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: err}
}

func TestErrorsAreSortedByWhatAnotherAttemptWouldBring(t *testing.T) {
	for _, test := range []struct {
		err  error
		want Class
	}{
		{coded("RequestThrottledException"), Throttled},
		{coded("RequestLimitExceeded"), Throttled},
		{status(429, coded("SomethingNew")), Throttled},
		{status(503, coded("InternalServerException")), Transient},
		{status(500, errors.New("not even XML")), Transient},
		{&smithyhttp.RequestSendError{Err: errors.New("connection reset")}, Transient},
		{fmt.Errorf("put: %w", context.DeadlineExceeded), Transient},
		{status(400, &smithy.GenericAPIError{Code: "ValidationException", Message: "WRITE_REQUEST_TIMEOUT"}), Transient},
		{status(400, coded("ValidationException")), Permanent},
		{status(403, coded("AccessDeniedException")), Permanent},
		{errors.New("a fault of our own"), Permanent},
	} {
		if got := Classify(test.err); got != test.want {
			t.Errorf("%v is %v, want %v", test.err, got, test.want)
		}
	}
}

func TestFaultsAreCountedAndThrottlingIsNot(t *testing.T) {
	for _, test := range []struct {
		err      error
		attempts int
	}{
		{coded("AccessDenied"), 1},
		{status(500, coded("InternalError")), 3},
		{coded("Throttling"), 50},
	} {
		attempts := 0
		err := quick.Do(t.Context(), Call{Try: func(context.Context) error {
			if attempts++; attempts == 50 {
				return nil
			}
			return test.err
		}})
		if attempts != test.attempts || (attempts < 50 && !errors.Is(err, test.err)) || (attempts == 50 && err != nil) {
			t.Errorf("%v: %d attempts, want %d, then %v", test.err, attempts, test.attempts, err)
		}
	}
}

func TestARefusalSaysWhetherAnAttemptBeforeMayHaveBeenCarriedOut(t *testing.T) {
	for _, test := range []struct {
		before error
		want   bool
	}{
		{coded("Throttling"), false},
		{status(500, coded("InternalError")), true},
	} {
		attempts := 0
		err := quick.Do(t.Context(), Call{Try: func(context.Context) error {
			if attempts++; attempts == 1 {
				return test.before
			}
			return coded("AccessDenied")
		}})
		if errors.Is(err, ErrUnsure) != test.want || Code(err) != "AccessDenied" {
			t.Errorf("after %v the refusal is %v", test.before, err)
		}
	}
}

func TestThrottlingIsNotWaitedOutForEver(t *testing.T) {
	impatient := quick
	impatient.Patience = 0
	if err := impatient.Do(t.Context(), Call{Try: func(context.Context) error { return coded("Throttling") }}); err == nil {
		t.Error("there is no error")
	}
}

func TestAnAttemptThatHangsIsGivenUp(t *testing.T) {
	short := quick
	short.Deadline = time.Millisecond
	attempts := 0
	err := short.Do(t.Context(), Call{Try: func(ctx context.Context) error {
		attempts++
		<-ctx.Done()
		return ctx.Err()
	}})
	if attempts != 3 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d attempts, then %v", attempts, err)
	}
}

func TestAnEndedContextEndsThePause(t *testing.T) {
	slow := quick
	slow.Base, slow.Max = time.Hour, time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	err := slow.Do(ctx, Call{
		Try:    func(context.Context) error { return coded("Throttling") },
		Failed: func(error, Class) { cancel(stop) },
	})
	if !errors.Is(err, stop) {
		t.Errorf("the error is %v", err)
	}
}

func TestACallThatMakesSomethingIsNotCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := quick.Do(ctx, Call{Finish: true, Try: func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	}})
	if err != nil {
		t.Errorf("the attempt was cut off: %v", err)
	}
	if err := quick.Do(ctx, Call{Finish: true, Try: func(context.Context) error { t.Error("it was tried all the same"); return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
