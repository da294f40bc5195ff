package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"

	templates "github.com/ovenbird-dev/ovenbird/cloudformation"
	"github.com/ovenbird-dev/ovenbird/control-plane/workers"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

func createWorkersCommand() *cobra.Command {
	var flags workersFlags
	cmd := &cobra.Command{
		Use: "create CLUSTER [NAME]", Short: "Create worker nodes, in the stack NAME",
		Long: `Create worker nodes of a cluster: a CloudFormation stack of the template
cloudformation/workers.yaml, whose parameters about the cluster come from the EKS API. What
CloudFormation would make is shown first. The role of nodes gets its access entry. The stack
is complete when all nodes are Ready, and rolled back when they do not become so.`,
		Example: "  ovenbird workers create demo --ami ami-0123456789abcdef0 --nodes 3\n" +
			"  ovenbird workers create demo demo-batch --ami-parameter /ovenbird/stable/image_id:7 --min 0 --max 20 --spot \\\n" +
			"    --instance-type m7i.large --instance-type m7a.large --label tier=batch --taint tier=batch:NoSchedule",
		Args: clusterAndStack,
	}
	flags.add(cmd)
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := askOrYes(cmd, &flags.confirm); err != nil {
			return err
		}
		settings, err := flags.settings(cmd)
		if err != nil {
			return err
		}
		run, err := connectWorkers(cmd, args, &flags.confirm, flags.timeout)
		if err != nil {
			return err
		}
		result, err := run.create(cmd.Context(), settings)
		return printWorkers(cmd, output, result, err)
	}
	return cmd
}

func updateWorkersCommand() *cobra.Command {
	var flags workersFlags
	var refresh bool
	cmd := &cobra.Command{
		Use: "update CLUSTER [NAME]", Short: "Change worker nodes: only what flags say",
		Long: `Change the worker nodes in a stack. Whatever no flag says stays as it is. What CloudFormation
would change is shown first. Nodes are replaced one by one when something about them changes,
each after a drain; when a new one does not become Ready, the old ones come back.`,
		Example: "  ovenbird workers update demo --ami ami-0fedcba9876543210\n" +
			"  ovenbird workers update demo demo-batch --max 40 --yes\n" +
			"  ovenbird workers update demo --refresh",
		Args: clusterAndStack,
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&refresh, "refresh", false, "take this release's template, and the cluster's endpoint and authority as they are now")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := askOrYes(cmd, &flags.confirm); err != nil {
			return err
		}
		settings, err := flags.settings(cmd)
		if err != nil {
			return err
		}
		run, err := connectWorkers(cmd, args, &flags.confirm, flags.timeout)
		if err != nil {
			return err
		}
		result, err := run.update(cmd.Context(), settings, refresh)
		return printWorkers(cmd, output, result, err)
	}
	return cmd
}

// create makes a stack.
func (r *workersRun) create(ctx context.Context, settings workers.Settings) (workersResult, error) {
	if err := r.missing(ctx); err != nil {
		return workersResult{}, err
	}
	cluster, err := r.cluster(ctx)
	if err != nil {
		return workersResult{}, err
	}
	if err := readableByNodes(cluster, settings); err != nil {
		return workersResult{}, err
	}
	template, err := workers.ParseTemplate([]byte(templates.Workers))
	if err != nil {
		return workersResult{}, err
	}
	values, err := cluster.Parameters()
	if err != nil {
		return workersResult{}, err
	}
	said, err := settings.Parameters(template.Defaults())
	if err != nil {
		return workersResult{}, cli.Usage(err)
	}
	maps.Copy(values, cluster.Network(nil))
	maps.Copy(values, said)
	if err := workers.Complete(values); err != nil {
		return workersResult{}, cli.Usage(err)
	}
	return r.change(ctx, workers.Proposal{Template: templates.Workers, Values: values}, "Create these workers?")
}

// update changes a stack.
func (r *workersRun) update(ctx context.Context, settings workers.Settings, refresh bool) (workersResult, error) {
	now, err := r.stack.Describe(ctx)
	switch {
	case errors.Is(err, workers.ErrNotFound):
		return workersResult{}, fmt.Errorf("%w: make it with `ovenbird workers create %s %s`", err, r.stack.Cluster, r.stack.Name)
	case err != nil:
		return workersResult{}, workersError(err)
	case now.UnderWay():
		return workersResult{}, fmt.Errorf("stack %s is %s: follow that to its end with %s", now.Name, now.Status, r.again())
	case now.Empty(), strings.HasPrefix(now.Status, "ROLLBACK_"), now.Status == "CREATE_FAILED", now.Status == "DELETE_FAILED":
		return workersResult{}, fmt.Errorf("stack %s is %s and can only be deleted: `ovenbird workers delete %s %s`", now.Name, now.Status, r.stack.Cluster, r.stack.Name)
	}
	if now.Status == "UPDATE_ROLLBACK_FAILED" {
		return workersResult{}, fmt.Errorf("stack %[1]s is %[2]s and takes no update until it is rolled back: mend what `ovenbird workers status %[3]s %[1]s` names, then `aws cloudformation continue-update-rollback --stack-name %[1]s`",
			now.Name, now.Status, r.stack.Cluster)
	}
	if err := readableByNodes(workers.JoinedBy(now.Parameters), settings); err != nil {
		return workersResult{}, err
	}
	values, err := settings.Parameters(now.Parameters)
	if err != nil {
		return workersResult{}, cli.Usage(err)
	}
	proposal := workers.Proposal{Values: values, Now: &now}
	if refresh {
		cluster, err := r.cluster(ctx)
		if err != nil {
			return workersResult{}, err
		}
		fresh, err := cluster.Parameters()
		if err != nil {
			return workersResult{}, err
		}
		maps.Copy(fresh, values)
		proposal.Template, proposal.Values = templates.Workers, fresh
	}
	return r.change(ctx, proposal, "Change these workers?")
}

// missing refuses to create what is there.
func (r *workersRun) missing(ctx context.Context) error {
	now, err := r.stack.Describe(ctx)
	switch {
	case errors.Is(err, workers.ErrNotFound), err == nil && now.Empty():
		return nil
	case err != nil:
		return workersError(err)
	case strings.HasPrefix(now.Status, "ROLLBACK_"):
		return fmt.Errorf("stack %s is there from a creation that failed (%s): delete it first with `ovenbird workers delete %s %s`", now.Name, now.Status, r.stack.Cluster, r.stack.Name)
	}
	return fmt.Errorf("stack %s is there and is %s: change it with `ovenbird workers update %s %s`, or give another NAME", now.Name, now.Status, r.stack.Cluster, r.stack.Name)
}

// cluster is what the EKS API says about the run's cluster.
func (r *workersRun) cluster(ctx context.Context) (workers.Cluster, error) {
	where, err := describeJoinable(ctx, r.clusters, r.stack.Cluster)
	if err != nil {
		return workers.Cluster{}, err
	}
	c, err := describe(ctx, r.clusters, r.stack.Cluster)
	if err != nil {
		return workers.Cluster{}, apiError("describe cluster "+r.stack.Cluster, err)
	}
	found := workers.Cluster{Name: where.name, Endpoint: where.endpoint, Authority: where.authority, ServiceCIDR: where.serviceCIDR}
	if vpc := c.ResourcesVpcConfig; vpc != nil {
		found.VPCID, found.SubnetIDs, found.SecurityGroupID = aws.ToString(vpc.VpcId), vpc.SubnetIds, aws.ToString(vpc.ClusterSecurityGroupId)
	}
	return found, nil
}

// change proposes, asks, and carries out.
func (r *workersRun) change(ctx context.Context, proposal workers.Proposal, question string) (workersResult, error) {
	set, err := r.stack.Propose(ctx, proposal, r.watch)
	r.watch.progress.end()
	var unknown *workers.UnknownParameterError
	switch {
	case errors.As(err, &unknown) && proposal.Template == "":
		return workersResult{}, cli.Usage(fmt.Errorf("%w; --refresh takes this release's template", err))
	case errors.As(err, &unknown):
		return workersResult{}, cli.Usage(err)
	case err != nil:
		return workersResult{}, workersError(err)
	case set.Empty():
		return resultOf(r.stack, set, workers.Outcome{Status: proposal.Now.Status}), nil
	}
	if err := showChanges(r.cmd.ErrOrStderr(), set); err != nil {
		return workersResult{}, err
	}
	if err := r.confirm.ask(ctx, r.cmd.InOrStdin(), r.cmd.ErrOrStderr(), question); err != nil {
		return workersResult{}, errors.Join(err, workersError(r.stack.Discard(ctx, set)))
	}
	r.watch.entry = r.letIn(ctx, set.StackID())
	if role := workers.Role(proposal.Values); role != "" {
		r.watch.entry.want(roleARN(set.StackID(), role))
	}
	operation, err := r.stack.Execute(ctx, set)
	if err != nil {
		return workersResult{}, errors.Join(workersError(err), workersError(r.stack.Discard(ctx, set)))
	}
	outcome, err := r.follow(ctx, operation)
	result := resultOf(r.stack, set, outcome)
	result.Changed = true
	if problem := r.watch.entry.problem; problem != nil {
		result.Problems = append(result.Problems, problem.Error())
	}
	return result, err
}

func showChanges(w io.Writer, set workers.ChangeSet) error {
	if err := changeTable(set.Changes)(w); err != nil {
		return err
	}
	if len(set.Parameters) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return parameterTable(set.Parameters)(w)
}
