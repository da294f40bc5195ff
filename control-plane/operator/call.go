package operator

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
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

// printer writes an answer for a person to read.
type printer func(io.Writer) error

// answer makes cmd ask the API and print what that answers, as JSON or by the printer.
func answer(cmd *cobra.Command, ask func(ctx context.Context, client *eks.Client, args []string) (any, printer, error)) *cobra.Command {
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		value, shown, err := ask(cmd.Context(), client, args)
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), value, shown)
	}
	return cmd
}
