package operator

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks"
)

// callTimeout bounds one call to the API, the SDK's retries included.
const callTimeout = 60 * time.Second

// call makes one call to an AWS API.
func call[In, Out, Options any](ctx context.Context, operation func(context.Context, In, ...func(*Options)) (Out, error), in In) (Out, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return operation(ctx, in)
}

// paginator is what the SDK has for every operation that answers in pages.
type paginator[Page any] interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*eks.Options)) (*Page, error)
}

// allOf returns the items of all pages.
func allOf[Page, Item any](ctx context.Context, pages paginator[Page], items func(*Page) []Item) ([]Item, error) {
	var all []Item
	for pages.HasMorePages() {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := pages.NextPage(call)
		cancel()
		if err != nil {
			return nil, err
		}
		all = append(all, items(page)...)
	}
	return all, nil
}
