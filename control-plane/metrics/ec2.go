package metrics

import (
	"context"
	"errors"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// Calls measures every call of an SDK client that has it among its APIOptions.
func (m *Metrics) Calls(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("OvenbirdMetrics",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			start := time.Now()
			out, metadata, err := next.HandleInitialize(ctx, in)
			m.called(awsmiddleware.GetOperationName(ctx), outcome(err), start)
			return out, metadata, err
		}), middleware.After)
}

// outcome is how a call ended, in a few words: error codes are EC2's to invent.
func outcome(err error) string {
	var refusal smithy.APIError
	switch {
	case err == nil:
		return "ok"
	case retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool():
		return "throttled"
	case errors.As(err, &refusal):
		return "refused"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "failed"
}
