package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func updateConfigCommand() *cobra.Command {
	var flags settingFlags
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "update-config NAME",
		Short: "Change one setting of a cluster",
		Example: "  ovenbird cluster update-config demo --logging api,audit --wait\n" +
			"  ovenbird cluster update-config demo --authentication-mode API\n" +
			"  ovenbird cluster update-config demo --deletion-protection=false",
		Args: oneCluster,
	}
	flags.add(cmd)
	wait.add(cmd, "the update has ended")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		input, err := flags.given(cmd).update(args[0])
		if err != nil {
			return err
		}
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		u, err := updateConfig(cmd.Context(), client, input)
		if err == nil && wait.wait {
			u, err = waitUpdated(cmd.Context(), client, args[0], u, wait.timeout, newProgress(cmd.ErrOrStderr()))
		}
		if err != nil {
			return err
		}
		return output.Print(cmd.OutOrStdout(), viewUpdate(u), updateTable(viewUpdate(u)))
	}
	return cmd
}

func updateConfig(ctx context.Context, client *eks.Client, input *eks.UpdateClusterConfigInput) (*types.Update, error) {
	out, err := call(ctx, client.UpdateClusterConfig, input)
	var busy *types.ResourceInUseException
	switch {
	case errors.As(err, &busy):
		return nil, fmt.Errorf("%w: wait with `ovenbird cluster wait %s`", apiError("update cluster "+*input.Name, err), *input.Name)
	case err != nil:
		return nil, apiError("update cluster "+*input.Name, err)
	}
	return out.Update, nil
}

// waitUpdated waits for the end of an update, and makes an error of one that did not succeed.
func waitUpdated(ctx context.Context, client *eks.Client, cluster string, started *types.Update, timeout time.Duration, progress *progress) (*types.Update, error) {
	id, ended := aws.ToString(started.Id), started
	of := subject{fmt.Sprintf("%s %s of cluster %s", started.Type, id, cluster), fmt.Sprintf("ovenbird cluster updates describe %s --update-id %s", cluster, id)}
	err := poll(ctx, of, timeout, progress, func(ctx context.Context) (now string, done bool, err error) {
		u, err := describeUpdate(ctx, client, cluster, id)
		if err != nil {
			return "", false, err
		}
		ended = u
		switch u.Status {
		case types.UpdateStatusInProgress:
			return string(u.Status), false, nil
		case types.UpdateStatusSuccessful:
			return "", true, nil
		}
		return "", true, errors.New(strings.Join(append([]string{of.name + " is " + string(u.Status)}, viewUpdate(u).problems()...), ": "))
	})
	return ended, err
}

func describeUpdate(ctx context.Context, client *eks.Client, cluster, id string) (*types.Update, error) {
	out, err := call(ctx, client.DescribeUpdate, &eks.DescribeUpdateInput{Name: aws.String(cluster), UpdateId: aws.String(id)})
	if err != nil {
		return nil, err
	}
	return out.Update, nil
}

func updatesCommand() *cobra.Command {
	return group("updates", "Look at the updates of a cluster", "  ovenbird cluster updates list demo",
		listUpdatesCommand(), describeUpdateCommand())
}

func listUpdatesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list NAME", Short: "List the updates of a cluster, oldest first",
		Example: "  ovenbird cluster updates list demo", Args: oneCluster,
	}
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		updates, err := listUpdates(ctx, client, args[0])
		if err != nil {
			return nil, nil, err
		}
		return updates, updateTable(updates...), nil
	})
}

func listUpdates(ctx context.Context, client *eks.Client, cluster string) ([]updateView, error) {
	pages := eks.NewListUpdatesPaginator(client, &eks.ListUpdatesInput{Name: aws.String(cluster)})
	ids, err := allOf(ctx, pages, func(page *eks.ListUpdatesOutput) []string { return page.UpdateIds })
	if err != nil {
		return nil, apiError("list updates of cluster "+cluster, err)
	}
	updates := []updateView{}
	for _, id := range ids {
		u, err := describeUpdate(ctx, client, cluster, id)
		if err != nil {
			return nil, apiError("describe update "+id+" of cluster "+cluster, err)
		}
		updates = append(updates, viewUpdate(u))
	}
	slices.SortFunc(updates, func(a, b updateView) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return updates, nil
}

func describeUpdateCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "describe NAME --update-id ID", Short: "Show one update of a cluster",
		Example: "  ovenbird cluster updates describe demo --update-id 0f2cf1b5-c46e-4d9e-8a4f-5f3c5a0f6f0e", Args: oneCluster,
	}
	cmd.Flags().StringVar(&id, "update-id", "", "ID of the update")
	_ = cmd.MarkFlagRequired("update-id") // fails only for a flag that is not there
	return answer(cmd, func(ctx context.Context, client *eks.Client, args []string) (any, printer, error) {
		u, err := describeUpdate(ctx, client, args[0], id)
		if err != nil {
			return nil, nil, apiError("describe update "+id+" of cluster "+args[0], err)
		}
		return viewUpdate(u), viewUpdate(u).details(), nil
	})
}

// updateView is an update as --output json prints it, in the API's words.
type updateView struct {
	ID        string        `json:"id"`
	Status    string        `json:"status"`
	Type      string        `json:"type"`
	Params    []updateParam `json:"params"`
	CreatedAt time.Time     `json:"createdAt"`
	Errors    []updateError `json:"errors"`
}

type updateParam struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type updateError struct {
	Code    string `json:"errorCode"`
	Message string `json:"errorMessage"`
}

func viewUpdate(u *types.Update) updateView {
	v := updateView{
		ID: aws.ToString(u.Id), Status: string(u.Status), Type: string(u.Type), CreatedAt: aws.ToTime(u.CreatedAt),
		Params: []updateParam{}, Errors: []updateError{},
	}
	for _, p := range u.Params {
		v.Params = append(v.Params, updateParam{string(p.Type), aws.ToString(p.Value)})
	}
	for _, e := range u.Errors {
		v.Errors = append(v.Errors, updateError{string(e.ErrorCode), aws.ToString(e.ErrorMessage)})
	}
	return v
}

// problems say why the update did not succeed.
func (u updateView) problems() []string {
	var problems []string
	for _, e := range u.Errors {
		problems = append(problems, e.Code+": "+e.Message)
	}
	return problems
}

func (u updateView) details() func(io.Writer) error {
	rows := [][]string{{"id", u.ID}, {"type", u.Type}, {"status", u.Status}}
	for _, problem := range u.problems() {
		rows = append(rows, []string{"error", problem})
	}
	for _, p := range u.Params {
		rows = append(rows, []string{"parameter", p.Type + "=" + p.Value})
	}
	return table(append(rows, []string{"created", local(u.CreatedAt)})...)
}

func updateTable(updates ...updateView) func(io.Writer) error {
	rows := [][]string{{"ID", "TYPE", "STATUS", "CREATED"}}
	for _, u := range updates {
		rows = append(rows, []string{u.ID, u.Type, u.Status, local(u.CreatedAt)})
	}
	return table(rows...)
}
